"""Counting in a worker, adding up in the supervisor, showing to Prometheus."""

from dataclasses import fields

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from imserver.observe import metrics
from imserver.observe.exposition import CONTENT_TYPE, ServerView, WorkerView, render
from imserver.observe.metrics import Counters, Histogram, HistogramSnapshot, Row, Statistics, Totals


def counted() -> Counters:
    counters = Counters()
    counters.messages_in += 3
    counters.errors["bad-frame"] = 2
    counters.store_call_seconds.observe(0.0007)
    return counters


def told(counters: Counters, number: int = 0) -> Statistics:
    return counters.snapshot(number=number, node="n1", pid=12, ready=True, why="", gauges={"sessions": 5, "ready": 1})


def view(totals: Totals, *workers: Statistics | None) -> ServerView:
    views = [WorkerView(number, "n1", 12, True, 1.5, 4, statistics) for number, statistics in enumerate(workers)]
    return ServerView("1.2.3", 1_700_000_000.0, 100, 0, views, totals)


def samples(shown: ServerView) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(render(shown).decode())
        for sample in family.samples
    }


# -- counting


def test_every_counter_is_in_exactly_one_table() -> None:
    rows = [row.name for row in (*metrics.COUNTS, *metrics.LABELLED, *metrics.HISTOGRAMS)]
    assert sorted(rows) == sorted(field.name for field in fields(Counters))


@pytest.mark.parametrize("row", [*metrics.COUNTS, *metrics.LABELLED, *metrics.GAUGES, *metrics.HISTOGRAMS])
def test_every_row_says_what_it_means(row: Row) -> None:
    assert row.meaning.endswith(".")


def test_counters_have_no_room_for_a_misspelt_name() -> None:
    with pytest.raises(AttributeError):
        Counters().mesages_in = 1  # type: ignore[attr-defined]


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_an_observation_is_in_the_first_bucket_that_is_large_enough(values: list[float]) -> None:
    histogram = Histogram(metrics.CALL_SECONDS)
    for value in values:
        histogram.observe(value)
    assert histogram.sum == pytest.approx(sum(values))
    for position, bound in enumerate(metrics.CALL_SECONDS):
        assert sum(histogram.counts[: position + 1]) == sum(value <= bound for value in values)
    assert sum(histogram.counts) == len(values)


def test_statistics_survive_the_control_channel() -> None:
    statistics = told(counted())
    assert msgspec.json.decode(msgspec.json.encode(statistics), type=Statistics) == statistics


def test_a_snapshot_is_not_touched_by_what_comes_later() -> None:
    counters = counted()
    before = told(counters)
    counters.messages_in += 1
    counters.errors["bad-frame"] += 1
    counters.store_call_seconds.observe(1.0)
    assert before == told(counted())


# -- adding up


def test_totals_add_and_share_nothing() -> None:
    first, second = told(counted()), told(counted())
    totals = Totals()
    totals.add(first)
    totals.add(second)
    assert totals.counters["messages_in"] == 6
    assert totals.labelled["errors"] == {"bad-frame": 4}
    assert sum(totals.histograms["store_call_seconds"].counts) == 2
    assert first == second == told(counted())


def test_statistics_of_another_version_add_what_they_have() -> None:
    totals = Totals()
    totals.add(told(counted()))
    newer = msgspec.structs.replace(
        told(counted()),
        counters={"messages_in": 1, "unheard_of": 9},
        histograms={"store_call_seconds": HistogramSnapshot([1.0], [5, 6], 7.0)},
    )
    totals.add(newer)
    assert totals.counters["messages_in"] == 4
    assert totals.histograms["store_call_seconds"].counts == [5, 6]
    samples(view(totals, newer))


# -- showing


def test_shown_over_all_workers_and_for_each() -> None:
    first, second = told(counted(), 0), told(counted(), 1)
    totals = Totals()
    totals.add(first)
    totals.add(second)
    shown = samples(view(totals, first, second))
    assert shown["imserver_messages_in_total", ()] == 6
    assert shown["imserver_worker_messages_in_total", (("worker", "1"),)] == 3
    assert shown["imserver_errors_total", (("code", "bad-frame"),)] == 4
    assert shown["imserver_worker_errors_total", (("code", "bad-frame"), ("worker", "0"))] == 2
    assert shown["imserver_sessions", ()] == 10
    assert shown["imserver_worker_sessions", (("worker", "0"),)] == 5
    assert shown["imserver_store_call_seconds_bucket", (("le", "0.0005"),)] == 0
    assert shown["imserver_store_call_seconds_bucket", (("le", "0.001"),)] == 2
    assert shown["imserver_store_call_seconds_bucket", (("le", "+Inf"),)] == 2
    assert shown["imserver_store_call_seconds_sum", ()] == pytest.approx(0.0014)
    assert shown["imserver_info", (("version", "1.2.3"),)] == 1


def test_a_silent_worker_is_down_and_its_counts_stay_in_the_sum() -> None:
    totals = Totals()
    totals.add(told(counted()))
    shown = samples(view(totals, None))
    assert shown["imserver_worker_up", (("worker", "0"),)] == 0
    assert shown["imserver_worker_restarts_total", (("worker", "0"),)] == 4
    assert shown["imserver_messages_in_total", ()] == 3
    assert ("imserver_worker_messages_in_total", (("worker", "0"),)) not in shown


def test_each_name_is_shown_once() -> None:
    names = [line.split()[2] for line in render(view(Totals())).decode().splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert CONTENT_TYPE.startswith("text/plain")
