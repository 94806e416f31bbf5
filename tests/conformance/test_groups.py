"""Process groups: `:pg` on one node (section 5 of the table) and across nodes (section 7), with a BEAM and a Python."""

import pytest

from otplib import Atom, node, receive, self_, send, spawn
from otplib.behaviours import pg
from otplib.testing import deterministic
from tests.conformance.servers import flush
from tests.dist.beam import LIMIT
from tests.dist.nodes import perform


@pytest.fixture(params=range(5))
def machine(request):
    with deterministic(seed=request.param) as made:
        yield made


def test_r05_a_process_joins_a_group_as_often_as_it_likes_and_leaves_as_it_ends(machine):
    """r05_pg.exs"""

    async def main():
        await pg.start_link()
        pid = spawn(receive, "go")
        assert await pg.join("g", [pid, self_(), self_()]) is None
        assert len(pg.get_members("g")) == 3
        send(pid, "go")
        await flush(0.02)
        assert len(pg.get_members("g")) == 2
        assert await pg.leave("g", self_()) is True
        assert await pg.leave("g", pid) is False
        assert pg.which_groups() == ["g"]

    machine.run(main)


START = {"elixir": "{:ok, _} = :pg.start(:pg)", "python": "from otplib.behaviours import pg; await pg.start()"}
JOIN = {
    "elixir": "p = spawn(Process, :sleep, [:infinity]); :pg.join(:g, p); p",
    "python": 'p = spawn(receive, "never"); await pg.join(Atom("g"), p); p',
}


def test_y28_groups_span_nodes_and_members_vanish_with_their_node(py, start):
    """y28_pg_dist.exs"""
    foo = start()

    async def main():
        await pg.start_link()
        assert await node.connect(foo.name)
        foo.tell(**START)
        ref, _ = await pg.monitor(Atom("g"))
        foo.tell(**JOIN)
        _, _, _, [theirs] = await receive((ref, "join", "g", ...), timeout=LIMIT)
        assert theirs.node == foo.name
        await pg.join(Atom("g"), self_())
        assert sorted(pg.get_members(Atom("g"))) == sorted([theirs, self_()])
        assert pg.get_local_members(Atom("g")) == [self_()]
        assert await receive((ref, "join", ..., ...), timeout=LIMIT) == (ref, "join", "g", [self_()])
        foo.kill()
        assert await receive((ref, "leave", ..., ...), timeout=LIMIT) == (ref, "leave", "g", [theirs])
        assert pg.get_members(Atom("g")) == [self_()]

    perform(main)
