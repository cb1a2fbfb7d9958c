"""The engine beside its peers, and behind its server: `make bench`, or `python -m bench --help`.

    python -m bench                                  everything, some 30 minutes
    python -m bench --quick                          (or QUICK=1) storyteller and 124M, less of all, under two minutes
    python -m bench --part contest --model 124M --batch 8 --rounds 5

Everybody has one thread (or --threads) and OpenMP's passive waiting; contenders take turns in rounds, and figures are
medians. Table, targets and bounds are printed; all of it is written as JSON, and the decode speeds as a plot, into
bench/results/.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from bench import plot, report
from bench.beside import beside
from bench.contest import Contest
from bench.gap import Gap
from bench.load import load
from bench.measure import Child, machine, median, spread, told
from bench.ours import PRECISIONS
from bench.sameness import Sameness
from bench.samplers import Samplers
from bench.serve import serve
from bench.shapes import LARGE, NAMES, SHAPES, make
from bench.targets import judged

RESULTS = Path(__file__).parent / "results"
QUICK = ("contest", "serve", "gap", "sameness", "samplers")
PARTS = (*QUICK, "load", "beside")  # these two take longer to begin than a quick run may last


def main() -> None:
    args = arguments()
    begun = time.monotonic()
    lists = {name: [] for name in ("cells", "serve", "gaps", "sameness", "samplers", "load", "beside")}
    results = {
        "machine": machine(),
        "quick": args.quick,
        "rounds": args.rounds,
        "threads": args.threads,
        "bounds": {},
        "seconds": {},
    } | lists
    print(report.heading(results["machine"], args.rounds, args.threads), flush=True)
    with tempfile.TemporaryDirectory(prefix="rubric-bench-") as name:
        for part in args.part or (QUICK if args.quick else PARTS):
            started = time.monotonic()
            MEASURES[part](args, Path(name), results)
            results["seconds"][part] = round(time.monotonic() - started)
    results["targets"] = judged(results)
    print(report.targets(results["targets"]))
    print(f"\n{time.monotonic() - begun:.0f} s in all: {results['seconds']}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{args.out}.json").write_text(json.dumps(results, indent=1) + "\n")
    if results["cells"]:
        plot.write(results, Path(f"{args.out}.svg"))


def arguments() -> argparse.Namespace:
    quick = os.environ.get("QUICK", "0") not in ("", "0")
    parser = argparse.ArgumentParser(prog="python -m bench", description="The engine beside its peers.")
    parser.add_argument("--quick", action="store_true", default=quick, help="under two minutes; also QUICK=1")
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all")
    parser.add_argument(
        "--model",
        action="append",
        choices=("storyteller", *SHAPES),
        help=f"default: {', '.join(NAMES)}; with --quick the first two",
    )
    parser.add_argument("--batch", action="append", type=int, metavar="N", help="default: 1, 8, 32; with --quick 1, 8")
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 3; with --quick 1")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of every contender of the contest (1)")
    parser.add_argument(
        "--precision", help="the server's (default: auto, and int8 for random weights, whose KL means nothing)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "latest", help="files to write, without their suffix")
    args = parser.parse_args()
    args.large = args.model or LARGE
    args.model = args.model or list(NAMES[:2] if args.quick else NAMES)
    args.batch = args.batch or ([1, 8] if args.quick else [1, 8, 32])
    args.rounds = args.rounds or (1 if args.quick else 3)
    return args


def contest(args, work: Path, results: dict) -> None:
    with Contest(work, args.threads) as all_of_them:
        for model in args.model:
            all_of_them.load(model)
            results["bounds"][model] = all_of_them.bounds()
            new = 12 if args.quick else 16 if model == "345M" else 32
            cells = [row for batch in args.batch for row in all_of_them.cell(batch, args.rounds, new)]
            if model != "storyteller":  # its window is too short
                all_of_them.prefill(cells, args.rounds)
            results["cells"] += cells
            print(report.cells(model, cells, results["bounds"][model]), flush=True)
        results["neighbours"] = all_of_them.neighbours.cores
        print(report.neighbours(results["neighbours"]), flush=True)


def server(args, work: Path, results: dict) -> None:
    threads = max(1, results["machine"]["cores"] - 1)  # one is left for the web
    for model in args.model[-1:] if args.quick else [m for m in args.model if m != "345M"]:
        written(work, model)
        viewers, new = ([8], 48) if args.quick else ([1, 8, 32, 64], 100 if model in SHAPES else 400)
        precision = args.precision or ("int8" if model in SHAPES else "auto")
        with told(f"{model} {precision}"):
            results["serve"] += serve(work, model, viewers, args.rounds, new, precision, threads)
    print(report.served(results["serve"]), flush=True)


def gap(args, work: Path, results: dict) -> None:
    models = args.model[-1:] if args.quick else [m for m in args.model if m != "345M"]
    precisions, counts = (PRECISIONS[-1:], [8]) if args.quick else (PRECISIONS, [8, 31])
    names = ("longest_ms", "median_ms")
    results["gaps"] += pairs(args, work, Gap, "enter", names, models, precisions, counts)
    print(report.gaps(results["gaps"]), flush=True)


def pairs(args, work: Path, kind: type, call: str, names, models, precisions, counts) -> Iterator[dict]:
    """Both times that `call` of a `kind` tells, in ms and by their `names`, and the one over the other.

    Medians of the rounds, the first of which warms up; a row for each of `models`, `precisions` and `counts` of rows.
    """
    for model, precision in product(models, precisions):
        with told(f"{model} {precision}"):
            child = Child(kind, precision)
            child.call("load", written(work, model))
            for rows in counts:
                times = [child.call(call, rows, f"{number}") for number in range(args.rounds + 1)][1:]
                row = {"model": model, "precision": precision, "rows": rows}
                row["rounds"] = len(times)
                for name, some in zip(names, zip(*times, strict=True), strict=True):
                    row |= {name: median(some) * 1000, f"{name}_spread": spread(some)}
                ratios = [one / other for one, other in times]
                yield row | {"ratio": median(ratios), "ratio_spread": spread(ratios)}
            child.close()


def sameness(args, work: Path, results: dict) -> None:
    for precision in PRECISIONS:
        with told(precision):
            child, count = Child(Sameness, precision), 6 if args.quick else 50
            child.call("load", written(work, "storyteller"))
            results["sameness"].append({"precision": precision, "runs": count} | child.call("share", count))
            child.close()
    print(report.same(results["sameness"]), flush=True)


def samplers(args, work: Path, results: dict) -> None:
    models = [m for m in args.model if m != "345M"]
    precisions, counts = (PRECISIONS[-1:], [1]) if args.quick else (PRECISIONS[1:], [1, 32])
    results["samplers"] += pairs(args, work, Samplers, "compare", ("on_ms", "off_ms"), models, precisions, counts)
    print(report.samplers(results["samplers"]), flush=True)


def loading(args, work: Path, results: dict) -> None:
    for model in args.large:
        results["load"] += load(written(work, model), args.rounds, args.threads, new=8 if model in LARGE[1:] else 16)
    print(report.loaded(results["load"]), flush=True)


def training(args, work: Path, results: dict) -> None:
    for model in [m for m in args.model if m != "345M"]:
        written(work, model)
        precision = args.precision or ("int8" if model in SHAPES else "auto")
        with told(f"{model} {precision}"):
            counts, new = ([8], 100) if model in SHAPES else ([1, 8], 400)
            results["beside"] += beside(work, model, counts, args.rounds, new, precision)
    print(report.beside(results["beside"]), flush=True)


def written(work: Path, model: str) -> Path:
    return work / model if (work / model).exists() else make(work, model)


MEASURES = {
    "contest": contest, "serve": server, "gap": gap, "sameness": sameness, "samplers": samplers, "load": loading,
    "beside": training,
}  # fmt: skip

if __name__ == "__main__":
    main()
