"""The numbers in Prometheus' form. There are at most 100 series, whatever is asked of the server, beside the buckets of the two
histograms: models beyond a few are counted together, and so are those that whoever asks may not know of.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from generate import OTHERS, FinishReason, Histogram, Tally
from webapp.watch.numbers import Numbers


def written(
    numbers: Numbers, hidden: Callable[[str], bool], accept: str, job_states: Iterable[str]
) -> tuple[bytes, str]:
    """The body and its content type, as the header `accept` wants it: Prometheus' text, or OpenMetrics.

    `hidden` says which models are not to be named; `job_states` are all that there are.
    """
    registry = CollectorRegistry()
    registry.register(Families(list(families(numbers, hidden, job_states))))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class Families:
    """A collector of what was found already."""

    def __init__(self, found: list[Metric]):
        self._found = found

    def collect(self) -> list[Metric]:
        """All of it."""
        return self._found


def families(numbers: Numbers, hidden: Callable[[str], bool], job_states: Iterable[str]) -> Iterator[Metric]:
    """The families of all metrics but the process's."""
    tallies, rows = by_label(numbers, hidden)
    whole = numbers.all
    yield gauge("rubric_ready", "1 where a model is loaded and the engine steps", float(numbers.ready))
    yield counters("rubric_runs", "Runs taken in line", "model", {n: t.runs for n, t in tallies.items()})
    yield tokens(tallies)
    ended = {str(reason): whole.ended[str(reason)] for reason in FinishReason}
    yield counters("rubric_samples_ended", "Samples that ended, by the way they did", "reason", ended)
    first = {name: tally.first_token for name, tally in tallies.items()}
    yield histogram("rubric_first_token_seconds", "From a run's coming to its first token", first)
    steps = {name: tally.steps for name, tally in tallies.items()}
    yield histogram("rubric_step_seconds", "A pass of the model, for all its rows together", steps)
    yield gauges("rubric_rows", "Samples being read or written", "model", rows)
    yield gauge("rubric_line_runs", "Runs that wait", numbers.waiting)
    yield counters("rubric_refusals", "What was refused, and why", "reason", numbers.refused)
    yield counters("rubric_answers", "Answers to requests, by the class of their status", "status", numbers.answers)
    yield gauge("rubric_streams", "Open streams", numbers.streams)
    yield gauge("rubric_streams_limit", "Streams that may be open at once", numbers.most_streams)
    yield gauge("rubric_disk_free_bytes", "Room where the server keeps its files", numbers.disk_free)
    yield gauge("rubric_disk_size_bytes", "Room and what is taken of it", numbers.disk_total)
    yield gauge("rubric_database_up", "1 where the database answered at the last look", float(numbers.stored.answers))
    if numbers.stored.size is not None:
        yield gauge("rubric_database_bytes", "Size of the database", numbers.stored.size)
    jobs = {state: numbers.stored.jobs.get(state, 0) for state in job_states}
    yield gauges("rubric_jobs", "Conversions and trainings, by their state", "state", jobs)


def by_label(numbers: Numbers, hidden: Callable[[str], bool]) -> tuple[dict[str, Tally], dict[str, int]]:
    """Tallies and rows by the names that are told."""
    tallies, rows = {}, {}
    for name, tally in numbers.tallies.items():
        tallies.setdefault(OTHERS if hidden(name) else name, Tally()).add(tally)
    for name in tallies:
        rows[name] = 0
    for name, count in numbers.rows.items():
        label = name if name in tallies else OTHERS
        rows[label] = rows.get(label, 0) + count
    return tallies, rows


def tokens(tallies: dict[str, Tally]) -> Metric:
    """Tokens by model, and by what was done with them."""
    family = CounterMetricFamily("rubric_tokens", "Tokens written, and read of prompts", labels=["model", "kind"])
    for name, tally in tallies.items():
        family.add_metric([name, "written"], tally.written)
        family.add_metric([name, "read"], tally.read)
    return family


def gauge(name: str, meaning: str, value: float) -> Metric:
    """One number."""
    return GaugeMetricFamily(name, meaning, value=value)


def gauges(name: str, meaning: str, label: str, values: dict[str, float]) -> Metric:
    """One number for each value of a label."""
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def counters(name: str, meaning: str, label: str, values: dict[str, float]) -> Metric:
    """The same of what only grows; their names end in `_total` where they are told."""
    family = CounterMetricFamily(name, meaning, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def histogram(name: str, meaning: str, by_model: dict[str, Histogram]) -> Metric:
    """How long something took, by model."""
    family = HistogramMetricFamily(name, meaning, labels=["model"])
    for model, found in by_model.items():
        bounds = [*map(str, found.bounds), "+Inf"]
        family.add_metric([model], list(zip(bounds, accumulate(found.counts), strict=True)), found.sum)
    return family
