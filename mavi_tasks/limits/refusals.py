"""Which 429s a lower rate would prevent, and which come whatever the rate is.

A quota that others share refuses a share of requests at random. To send less does not help there; at a limit
of our own it does. The two are told apart by an experiment:

1. A sequential test (CUSUM) over the requests in the order of sending raises an alarm when more are refused
   than the known scattered share explains. Single 429s raise none.
2. Then less is sent for a while, and only those requests are looked at. When refusals go on as before they
   are scattered: all goes on as fast as it was, and their share is known from then on. When they stop, a
   limit caused them. When they go on, but so many that too little less may have been sent, a second stage
   sends less still.

A known scattered share is checked by the same experiment now and then, because a limit of our own may have
been found meanwhile. All counting is by sequence number: a refusal often returns before an answer to an
earlier request does.
"""

import math
from collections import deque
from typing import Final, Literal

Verdict = Literal["open", "limit", "scattered", "deeper"]

LEAST_SHARE: Final = 0.01
"""So few refusals are not worth a test."""
MOST_SHARE: Final = 0.5
LEAST_ALARM: Final = 3.0
"""As a log likelihood ratio; more where many refusals are expected."""
FALSE_ALARM_EVERY_S: Final = 180.0
LEAST_RUN: Final = 16
"""Requests before an alarm while no rate is proven: their share decides how much less is sent."""
EXPECTED: Final = 10
"""Refusals that a test would see if they were scattered: it is long enough not to miss them by chance."""
STOPPED: Final = 0.4
"""A share that fell to less than this part of itself depends on the rate."""
SURELY_SCATTERED: Final = 0.25
"""A higher share that goes on needs a second stage: the limit may be lower still."""
MOST_STAGES: Final = 2
WINDOW: Final = 16
"""Sends, of which most are refused or not."""
MOST: Final = 0.7
CHECK_AFTER: Final = 1000
"""Sends after which a known scattered share is checked again; doubles while it is confirmed."""
MOST_CHECK_AFTER: Final = 16_000


class Refusals:
    """The 429s of one model. Pure."""

    def __init__(self) -> None:
        self.scattered = LEAST_SHARE
        """The share of requests that is refused whatever the rate, as far as known; a little at least."""
        self.testing = False
        """Less is sent, and the cause is not yet known."""
        self.stage = 0
        """Of the latest test: 0, or more when it was made deeper."""
        self.before = (0, 0)
        """Requests refused and sent before the test, or in its stage before."""
        self._share = 0.0
        self._gentle = False
        self._recent: deque[int] = deque(maxlen=WINDOW)
        self._test_began = self._test_refused = self._test_sends = 0
        self._checked_at = 0
        self._check_after = CHECK_AFTER
        self._restart(0)
        self._set_scattered(LEAST_SHARE)

    def _restart(self, seq: int) -> None:
        self._last = self._run_began = seq
        self._run_refused = 0
        self._score = 0.0

    def _set_scattered(self, share: float) -> None:
        self.scattered = share = min(MOST_SHARE, max(LEAST_SHARE, share))
        more = share + max(0.03, share / 2)
        self._if_refused = math.log(more / share)
        self._if_accepted = math.log((1 - more) / (1 - share))

    @property
    def suspicious(self) -> bool:
        """Half-way to an alarm, or in a test: no time to send faster."""
        return self.testing or self._score >= LEAST_ALARM / 2

    # -- the alarm -------------------------------------------------------------------------------------------

    def add(self, seq: int, per_s: float, *, proven: bool) -> bool:
        """Request `seq` was refused, `per_s` are sent. True: more are refused than scattered ones explain."""
        self._recent.append(seq)
        if self.testing:
            self._test_refused += 1
            return False
        if seq <= self._run_began:  # a late reply to a request from before
            return False
        accepted = max(0, seq - self._last - 1)
        self._last = max(self._last, seq)
        self._score += accepted * self._if_accepted
        if self._score <= 0.0:
            self._score, self._run_began, self._run_refused = 0.0, seq - 1, 0
        self._score += self._if_refused
        self._run_refused += 1
        expected = per_s * self.scattered * FALSE_ALARM_EVERY_S
        enough = proven or self._last - self._run_began >= LEAST_RUN
        return enough and self._score >= max(LEAST_ALARM, math.log(max(1.0, expected)))

    def run(self, seq: int) -> tuple[int, int]:
        """Requests refused and sent since the share began to grow, up to `seq`."""
        if self._run_refused:
            return self._run_refused, self._last - self._run_began
        return self._lately(seq), min(WINDOW, seq)

    def most_refused(self, seq: int) -> bool:
        """Whether most of the requests sent up to `seq` were refused."""
        sent = min(WINDOW, seq)
        return sent >= 5 and self._lately(seq) > MOST * sent

    def _lately(self, seq: int) -> int:
        return sum(seq - WINDOW < refused <= seq for refused in self._recent)

    # -- the test --------------------------------------------------------------------------------------------

    def start_test(self, seq: int, refused: int, sent: int, *, gentle: bool = False) -> None:
        """From the request after `seq` on less is sent; of `sent` before it `refused` were.

        gentle: only a little less, so that a share that goes on asks for a second stage.
        """
        known = self.testing or sent >= CHECK_AFTER
        # Few requests that led to an alarm show too high a share.
        self._share = max(LEAST_SHARE, refused / sent if known else min(MOST_SHARE, refused / (sent + 8)))
        self.stage = self.stage + 1 if self.testing else 0
        self.before = refused, sent
        self._gentle = gentle
        self.testing = True
        self._test_began, self._test_refused = seq, 0
        self._test_sends = math.ceil(EXPECTED / self._share)

    def start_check(self, seq: int) -> None:
        """Test the known scattered share."""
        self.start_test(seq, round(CHECK_AFTER * self.scattered), CHECK_AFTER)

    def check_is_due(self, seq: int) -> bool:
        """Whether the known scattered share should be tested again."""
        known = self.scattered > 1.5 * LEAST_SHARE
        return known and not self.testing and seq - self._checked_at > self._check_after

    def excess(self, deviations: float = 0.0) -> float:
        """The share of the requests before the test that a lower rate would have kept from being refused.

        0 to 1; so many standard deviations above the estimate.
        """
        refused, sent = self.before
        share = (refused + 1) / (sent + 2)
        share += deviations * math.sqrt(share * (1 - share) / (sent + 2))
        return max(0.0, (min(1.0, share) - self.scattered) / (1 - self.scattered))

    def verdict(self, seq: int) -> Verdict:
        """What the replies up to request `seq`, sent since the test began, show."""
        sent = seq - self._test_began
        if sent < self._test_sends and (self._test_refused or 3 * sent < self._test_sends):
            return "open"
        share = self._test_refused / sent
        if share < STOPPED * self._share:
            self.end_test(seq)
            self._check_after = CHECK_AFTER
            if share < self.scattered / 2:
                self._set_scattered(share)
            return "limit"
        if self._gentle or (share > SURELY_SCATTERED and self.stage < MOST_STAGES):
            self.start_test(seq, self._test_refused, sent)
            return "deeper"
        refused_before, sent_before = self.before
        self._check_after = min(2 * self._check_after, MOST_CHECK_AFTER)
        self._set_scattered((refused_before + self._test_refused) / (sent_before + sent))
        self.end_test(seq)
        return "scattered"

    def end_test(self, seq: int) -> None:
        """Begin again with the request after `seq`."""
        self.testing = False
        self._checked_at = seq
        self._restart(seq)
