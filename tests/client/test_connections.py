"""Retry-After as servers write it: seconds, dates, and what is neither."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.client.connections import retry_after

NOON, LATER = "Fri, 27 Nov 2026 12:00:00 GMT", "Fri, 27 Nov 2026 12:01:30 GMT"


@pytest.mark.parametrize(
    ("given_value", "seconds"),
    [("0", 0.0), ("7", 7.0), (" 7 ", 7.0), ("1.5", 1.5)],
)
def test_seconds_are_read(given_value: str, seconds: float) -> None:
    assert retry_after({"retry-after": given_value}) == seconds


@pytest.mark.parametrize(
    "given_value",
    ["", "-1", "1e3", "nan", "inf", "1.", ".5", "seven", "7 s", "٧", "27 Nov", "0x10"],
)
def test_what_is_no_time_counts_as_none(given_value: str) -> None:
    assert retry_after({"retry-after": given_value}) is None
    assert retry_after({}) is None


def test_a_date_counts_from_the_servers_own_clock() -> None:
    assert retry_after({"retry-after": LATER, "date": NOON}) == 90
    assert retry_after({"retry-after": NOON, "date": LATER}) == -90


def test_a_date_without_the_servers_clock_counts_from_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    at_noon = retry_after({"retry-after": NOON, "date": "Thu, 01 Jan 1970 00:00:00 GMT"})
    assert at_noon is not None
    monkeypatch.setattr("time.time", lambda: at_noon - 5)
    assert retry_after({"retry-after": NOON}) == 5
    assert retry_after({"retry-after": NOON, "date": "yesterday"}) == 5


@given(value=st.text(), date=st.text())
def test_no_header_breaks_the_client(value: str, date: str) -> None:
    found = retry_after({"retry-after": value, "date": date})
    assert found is None or isinstance(found, float)
