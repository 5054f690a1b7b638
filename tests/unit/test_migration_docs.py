"""The page about leaving BashOperator: its DAGs are DAGs, and what it says of arguments is so."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from airflow_preheat.operators import PreloadManyOperator, PreloadOperator
from airflow_preheat.operators._job import JobOperator

PAGE = (Path(__file__).parents[2] / "docs/how-to/migrate-from-bash-operator.md").read_text()


def test_every_example_is_a_dag_that_airflow_imports_and_none_of_the_new_ones_needs_a_shell(tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    for number, example in enumerate(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)):
        (tmp_path / f"example_{number}.py").write_text(example)

    bag = DagBag(tmp_path)

    assert bag.import_errors == {}
    kinds = {name: {task.task_type for task in dag.tasks} for name, dag in bag.dags.items()}
    assert kinds == {
        "warm_alluxio_before": {"BashOperator"},
        "warm_alluxio_after": {"PreloadOperator"},
        "warm_aws_before": {"BashOperator"},
        "warm_aws_after": {"PreloadOperator"},
        "warm_s5cmd_before": {"BashOperator"},
        "warm_s5cmd_after": {"PreloadOperator"},
        "warm_many": {"PreloadOperator", "PreloadManyOperator"},
    }


def test_the_arguments_that_flags_become_exist() -> None:
    taken = {
        name
        for operator in (JobOperator, PreloadOperator, PreloadManyOperator)
        for name in inspect.signature(operator.__init__).parameters
    }
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`(\w+)=", row[-2])}

    assert {"replicas", "index", "file_filter_regex", "wait_policy"} <= named <= taken


def test_the_table_names_every_option_of_our_job_load() -> None:
    from typer.main import get_command

    from preheat.cli._app import app

    command = get_command(app)
    options = {name for parameter in command.commands["job"].commands["load"].params for name in parameter.opts}
    table = PAGE.partition("| `distributedLoad` | `job load` |")[2].partition("\n\n")[0]
    named = set(re.findall(r"--[a-z-]+", "".join(row.split("|")[2] for row in table.splitlines()[2:])))

    assert named
    assert named <= options
