"""Other nodes: the Erlang distribution protocol, decided by pure machines and carried by a few threads.

etf                  terms to bytes and back
flags                what a node is able to do, and what it must be
framing, ticks       bytes to packets; who has gone silent
handshake            who are you, and do you know the cookie (`handshake_messages`: its messages)
control              the signals between processes of two nodes
epmd, epmd_server    which node of a machine listens on which port
"""
