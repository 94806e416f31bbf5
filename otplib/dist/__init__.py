"""Other nodes: the Erlang distribution protocol, decided by pure machines and carried by a few threads.

net_kernel           a machine as a node: who is connected, who may come in
router, receiver     signals out and in, and the bonds that span two nodes (`channel`: what ends with a connection)
far_spawn, far_calls processes asked for there, and functions run here (`far_reports`: what they log)
services             the registered processes that other nodes expect
poller, wire         the one thread that touches sockets (`link_setup`, `connection`: what it does with one)
etf                  terms to bytes and back (`shapes`: what OTP's own messages look like)
control              the signals between processes of two nodes (`control_reader`, `control_writer`, `signal_writer`)
flags                what a node is able to do, and what it must be
framing, ticks       bytes to packets; who has gone silent
handshake            who are you, and do you know the cookie (`handshake_messages`: its messages; `cookies`)
epmd, epmd_server    which node of a machine listens on which port (`epmd_keeper`, `node_names`, `addresses`)
tls                  the same, and nobody listens in
"""
