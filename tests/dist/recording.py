"""Records what two real BEAM nodes say to each other, into `vectors/`: `python -m tests.dist.recording`.

Node a asks an epmd that names our proxy's port in place of b's. The digest does not cover the flags, so the proxy can
take some from both names: without the atom cache and fragments the packets are the plain ones that we speak, and
without a few more they are those of older nodes.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import threading
from pathlib import Path

from otplib.dist import epmd
from otplib.dist.flags import DFlag
from otplib.dist.framing import Framing, handshake_frame, packet_frame
from tests.dist.beam import beam_node, our_epmd

VECTORS = Path(__file__).parent / "vectors"
COOKIE = "monster"

PLAIN = DFlag.DIST_HDR_ATOM_CACHE | DFlag.FRAGMENTS
OLD = PLAIN | DFlag.SEND_SENDER | DFlag.EXIT_PAYLOAD | DFlag.UNLINK_ID

CONNECT = "pong = net_adm:ping(b@localhost)"
SIGNALS = """
    B = b@localhost, pong = net_adm:ping(B), process_flag(trap_exit, true),
    Down = fun() -> receive {'DOWN', _, _, _, _} -> ok end end,
    Exit = fun() -> receive {'EXIT', _, _} -> ok end end,
    Round = fun() ->
        P = spawn(B, timer, sleep, [100000]),
        P ! {hello, <<"binary">>}, {nosuch, B} ! hello,
        link(P), unlink(P),
        M1 = monitor(process, P), demonitor(M1),
        M2 = monitor(process, {rex, B}), demonitor(M2),
        monitor(process, {nosuch, B}), Down(),
        group_leader(self(), P),
        spawn(B, erlang, send, [alias(), hi]), receive hi -> ok end,
        link(P), monitor(process, P), exit(P, bye), Down(), Exit(),
        spawn_link(B, erlang, exit, [oops]), Exit(),
        {_, _} = spawn_monitor(B, erlang, exit, [oops]), Down(),
        spawn(B, erlang, send, [self(), hi]), receive hi -> ok end
    end,
    Traced = fun(F) -> seq_trace:set_token(label, 17), F(), seq_trace:set_token([]) end,
    Round(), Traced(Round),
    P = spawn(B, timer, sleep, [100000]), Alias = rpc:call(B, erlang, alias, []),
    Traced(fun() -> P ! hello, {nosuch, B} ! hello, Alias ! hello, link(P), exit(P, bye), Exit() end),
    Traced(fun() -> spawn_link(B, erlang, exit, [oops]), Exit() end)
"""


class Proxy:
    """Stands between a and b, once; `frames` is what each has said: (who, the packet without its length)."""

    def __init__(self, target: int, without: DFlag) -> None:
        self._target = target
        self._without = without
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.frames: list[tuple[str, bytes]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with self._listener, socket.create_connection(("127.0.0.1", self._target)) as b:
            a, _ = self._listener.accept()
            with a, selectors.DefaultSelector() as selector:
                selector.register(a, selectors.EVENT_READ, ("a", Framing(), b))
                selector.register(b, selectors.EVENT_READ, ("b", Framing(), a))
                while True:
                    for key, _ in selector.select():
                        who, framing, other = key.data
                        data = key.fileobj.recv(65_536)
                        if not data:
                            return
                        framing.feed(data)
                        for packet in framing.packets():
                            self._pass_on(who, packet, framing, other)

    def _pass_on(self, who: str, packet: bytes, framing: Framing, other: socket.socket) -> None:
        self.frames.append((who, packet))
        if any(frame[:1] in b"ra" and speaker == who for speaker, frame in self.frames[:-1]):
            other.sendall(packet_frame(packet))
            return
        if packet[:1] == b"N":
            (flags,) = struct.unpack_from(">Q", packet, 1)
            packet = b"N" + struct.pack(">Q", flags & ~self._without) + packet[9:]
            self.frames[-1] = (who, packet)
        other.sendall(handshake_frame(packet))
        if packet[:1] in b"ra":  # the last that this side says in the handshake
            framing.connected()


def record(program: str, without: DFlag) -> dict[str, object]:
    with our_epmd() as epmd_of_a, our_epmd() as epmd_of_b, beam_node("b", epmd_of_b, cookie=COOKIE):
        entry = epmd.port_please("b", epmd_port=epmd_of_b)
        assert entry is not None
        proxy = Proxy(entry.port, without)
        with epmd.register("b", proxy.port, epmd_port=epmd_of_a):
            release = 'io:format("otp ~s~n", [erlang:system_info(otp_release)])'
            with beam_node("a", epmd_of_a, cookie=COOKIE, program=f"{program}, {release}, halt()") as a:
                otp = a.line_with("otp ").split()[1]
                proxy.join()
    frames = [[who, packet.hex()] for who, packet in proxy.frames]
    return {"otp": otp, "cookie": COOKIE, "without": int(without), "frames": frames}


def main() -> None:
    VECTORS.mkdir(exist_ok=True)
    for name, program, without in (
        ("handshake", CONNECT, DFlag(0)),
        ("signals", SIGNALS, PLAIN),
        ("signals_of_old_nodes", SIGNALS, OLD),
    ):
        recorded = record(program, without)
        text = json.dumps(recorded, indent=0).replace(',\n"', ', "').replace("[\n", "[").replace("\n]", "]")
        (VECTORS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(name, len(recorded["frames"]), "frames")


if __name__ == "__main__":
    main()
