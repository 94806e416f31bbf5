"""Net ticks against the table in OTP's dist_util: who is ticked when, and who is given up."""

from __future__ import annotations

import pytest

from otplib.dist.ticks import NetTicker, TickAction


def looks(ticker, *counts):
    return [ticker.tick(read=read, written=written) for read, written in counts]


SEND, NOTHING, DEAD = TickAction.SEND_TICK, TickAction.NOTHING, TickAction.NOT_RESPONDING


def test_a_connection_without_traffic_is_ticked_at_every_look():
    ticker = NetTicker()
    assert looks(ticker, (1, 0), (2, 1), (3, 2), (4, 3), (5, 4)) == [SEND] * 5


def test_who_has_written_since_the_last_look_need_not_tick():
    ticker = NetTicker()
    assert looks(ticker, (1, 5), (2, 5), (3, 7)) == [NOTHING, SEND, NOTHING]


def test_a_peer_that_is_silent_for_a_whole_net_tick_time_is_given_up():
    ticker = NetTicker()
    assert looks(ticker, (1, 1), (1, 2), (1, 3), (1, 4), (1, 5))[-2:] == [NOTHING, DEAD]


def test_one_packet_in_time_starts_the_count_anew():
    ticker = NetTicker()
    counts = [(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5), (1, 6), (1, 7)]
    assert looks(ticker, *counts).index(DEAD) == 7


def test_a_tick_behind_waiting_output_would_say_nothing():
    assert NetTicker().tick(read=0, written=0, pending=True) is NOTHING


def test_a_silent_hidden_peer_is_ticked_even_when_we_have_written():
    # A primitive C node ticks only in answer to a tick.
    assert looks(NetTicker(hidden=True), (0, 5), (0, 9), (1, 12)) == [SEND, SEND, NOTHING]
    assert looks(NetTicker(hidden=False), (0, 5), (0, 9)) == [NOTHING, NOTHING]


def test_a_higher_intensity_looks_more_often_before_it_gives_up():
    assert looks(NetTicker(intensity=6), *[(0, 0)] * 6).index(DEAD) == 5


@pytest.mark.parametrize("intensity", [3, 1001])
def test_an_intensity_outside_of_otps_range_is_refused(intensity):
    with pytest.raises(ValueError, match="4 to 1000"):
        NetTicker(intensity=intensity)
