"""``python -m demo``: a real S3 server, a cluster and Airflow; warms a dataset, trains on it, shows the numbers."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from rich.console import Console

from demo.story import Options, run_demo

RUNS = Path(__file__).parent.parent / ".demo"


def main() -> int:
    """Run the demo and return the exit status: 0, or 1 if a step failed."""
    arguments = parse_arguments()
    # SIGTERM stops the parts as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    RUNS.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=RUNS))
    options = Options(directory=directory, keep=arguments.keep, screenshots=arguments.screenshots)
    console = Console(width=None if sys.stdout.isatty() else 110)
    try:
        run_demo(options, console)
    except KeyboardInterrupt:
        console.print(f"Interrupted. The logs are in {directory}.", soft_wrap=True, highlight=False)
        return 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001 - whatever failed, say what and where to look
        (directory / "error.txt").write_text(traceback.format_exc())
        console.print("The demo failed:", style="red")
        console.print(f"{error}\nThe logs are in {directory}.", soft_wrap=True, highlight=False, markup=False)
        return 1
    shutil.rmtree(directory)
    return 0


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    parser.add_argument(
        "--screenshots", type=Path, metavar="DIR", help="write pictures of Airflow's UI (needs Chromium)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
