"""A cluster of `global` name servers without processes: their decisions, carried out in an order drawn from a seed."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from itertools import count

from otplib.core.terms import Atom, Pid
from otplib.dist.global_partitions import Partitions
from otplib.dist.global_protocol import Apply, Cast, Disconnect, GlobalProtocol, Meet, Order, Resolve, Retry, Tell


class Node:
    """A name server without a process: what it decides is carried out by the cluster."""

    def __init__(self, name, cluster):
        self.name = name
        self.locker = Pid(name, 5, 0, 1)
        self.protocol = GlobalProtocol(name, self.locker, cluster.tags.__next__)
        self.partitions = Partitions(self.protocol, life=hash(name))
        self.names = {}
        #: The locker: who waits, with the two tags.
        self.waiting = {}


class Cluster:
    """Nodes whose messages arrive in the order between each pair, and otherwise as the seed will have it.

    The lockers are one step here: two that wait for each other get the lock if nobody of the two partitions is locked.
    """

    def __init__(self, size, seed):
        self.random = random.Random(seed)
        self.tags = count(1)
        self.nodes = {name: Node(name, self) for name in (f"n{number}@h" for number in range(size))}
        self.links = set()
        self.queues = defaultdict(deque)
        #: (locker's node, tag) -> the nodes it has locked, as a real one would.
        self.locked = {}
        #: Attempts to be begun anew.
        self.timers = []

    def link(self, one, two):
        pair = frozenset((one, two))
        if pair not in self.links and one != two:
            self.links.add(pair)
            for here, there in ((one, two), (two, one)):
                # What the net kernel says comes before and behind all that the connection carries.
                self.queues[there, here].append(lambda here=here, there=there: self.node_up(here, there))

    def cut(self, one, two):
        pair = frozenset((one, two))
        if pair in self.links:
            self.links.remove(pair)
            for here, there in ((one, two), (two, one)):
                self.queues[there, here].append(lambda here=here, there=there: self.node_down(here, there))

    def node_up(self, here, there):
        self.act(here, self.nodes[here].partitions.node_up(there))

    def node_down(self, here, there):
        node = self.nodes[here]
        node.names = {name: pid for name, pid in node.names.items() if pid.node != there}
        self.act(here, node.partitions.node_down(there))

    def send(self, source, node, handler, *args):
        if frozenset((source, node)) in self.links:
            self.queues[source, node].append(lambda: self.act(node, handler(self.nodes[node], *args)))

    def act(self, here, actions):
        node = self.nodes[here]
        for action in actions:
            match action:
                case Cast(there, request) | Tell(there, request):
                    self.send(here, there, receive, request)
                case Order(message):
                    self.order(node, message)
                case Resolve(there, tag, names):
                    ops, resolved = compare(node, there, names)
                    self.queues[here, here].append(
                        lambda there=there, tag=tag, ops=ops, resolved=resolved: self.act(
                            here, node.protocol.exchange_ops(there, tag, ops, resolved)
                        )
                    )
                case Apply(ops, _, _):
                    for word, (name, pid, _) in ops:
                        assert word == "insert"
                        # Of a node that has gone meanwhile: the monitor fires at once.
                        node.names.pop(name, None)
                        if pid.node == here or frozenset((here, pid.node)) in self.links:
                            node.names[name] = pid
                case Meet(nodes):
                    for there in nodes:
                        self.link(here, there)
                        self.send(here, there, receive, ("in_sync", here, True))
                case Retry(there):
                    self.timers.append((here, there))
                case Disconnect(there):
                    self.cut(here, there)

    def order(self, node, message):
        match message:
            case ("his_the_locker", locker, _, his_tag, my_tag):
                node.waiting[locker.node] = (my_tag, his_tag)
            case ("cancel", there, tag, farewell):
                for cast in farewell:
                    self.send(node.name, cast.node, receive, cast.request)
                if node.waiting.get(there, (None,))[0] == tag:
                    del node.waiting[there]
                self.locked.pop((node.name, tag), None)

    def lock_pair(self):
        """Let two lockers that wait for each other lock their partitions; False if none can."""
        taken = {node for locked in self.locked.values() for node in locked}
        candidates = []
        for here, node in self.nodes.items():
            for there, (my_tag, his_tag) in node.waiting.items():
                other = self.nodes[there]
                if other.waiting.get(here) == (his_tag, my_tag) and here < there:
                    mine = {here, *node.protocol.known}
                    his = {there, *other.protocol.known}
                    if not (mine | his) & taken and (here, my_tag) not in self.locked:
                        candidates.append((here, my_tag, mine, there, his_tag, his))
        if not candidates:
            return False
        here, my_tag, mine, there, his_tag, his = self.random.choice(candidates)
        self.locked[here, my_tag] = mine
        self.locked[there, his_tag] = his
        lock = ("global", [self.nodes[here].locker, self.nodes[there].locker])
        for name, other, tag in ((here, there, my_tag), (there, here, his_tag)):
            node = self.nodes[name]
            self.queues[name, name].append(
                lambda node=node, other=other, tag=tag: self.act(
                    node.name, node.protocol.lock_is_set(other, tag, lock, all_names(node))
                )
            )
        return True

    def step(self):
        waiting = [pair for pair, queue in self.queues.items() if queue]
        if waiting:
            self.queues[self.random.choice(waiting)].popleft()()
            return True
        return self.lock_pair() or self.retry()

    def retry(self):
        if not self.timers:
            return False
        here, there = self.timers.pop(self.random.randrange(len(self.timers)))
        if frozenset((here, there)) in self.links:
            self.act(here, self.nodes[here].protocol.node_up(there))
        return True

    def settle(self):
        for _ in range(200_000):
            if not self.step():
                return
        raise AssertionError("it never comes to rest")


def all_names(node):
    return [(name, pid, None) for name, pid in node.names.items()]


def compare(node, there, theirs):
    """As `global_conflicts.compare`: the smaller of the two nodes decides, and the smaller holder keeps the name."""
    ops, resolved = [], []
    for name, pid, method in theirs:
        mine = node.names.get(name)
        if mine == pid:
            continue
        if mine is None or (node.name < there and pid.node < mine.node):
            ops.append((Atom("insert"), (name, pid, method)))
        elif node.name < there:
            resolved.append((Atom("insert"), (name, mine, method)))
    return ops, resolved


def receive(node, message):
    """As `GlobalNameServer.handle_cast` and `handle_info` take messages apart."""
    protocol = node.protocol
    match message:
        case ("init_connect", (version, tag), there, (_, _, _, locker)):
            return protocol.init_connect(there, version, tag, locker)
        case ("init_connect_ack", there, my_tag, his_tag):
            return protocol.init_connect_ack(there, my_tag, his_tag)
        case ("cancel_connect", there, tag):
            return protocol.cancel_connect(there, tag)
        case ("exchange", there, names, _, tag):
            return protocol.exchange(there, names, tag)
        case ("resolved", there, ops, known, _, _, tag):
            return protocol.resolved(there, ops, known, tag)
        case ("new_nodes", there, ops, _, nodes, extra):
            return protocol.new_nodes(there, ops, nodes, extra)
        case ("in_sync", there, _):
            return protocol.in_sync(there)
        case ("lost_connection", *_):
            return node.partitions.lost_connection(message, 0.0)
        case ("remove_connection", there):
            return node.partitions.remove_connection(there)
    raise AssertionError(message)


def assert_at_rest(cluster):
    """No attempt is open, nothing is locked, and partitions, whose nodes have the same names, do not overlap."""
    for name, node in cluster.nodes.items():
        linked = {other for pair in cluster.links if name in pair for other in pair} - {name}
        assert set(node.protocol.known) == linked, name
        assert node.protocol.synced == linked, name
        assert node.protocol.connected() == node.protocol.known, f"{name} has an attempt open"
        for other in node.protocol.known:
            partition = {name, *node.protocol.known}
            assert {other, *cluster.nodes[other].protocol.known} == partition, "overlapping partitions"
            assert cluster.nodes[other].names == node.names
        assert all(pid.node == name or pid.node in linked for pid in node.names.values())
    assert cluster.locked == {}
