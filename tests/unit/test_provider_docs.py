"""What the provider's reference says of the operators is so."""

import inspect
import re
from pathlib import Path

from airflow_preheat import operators
from airflow_preheat.operators._job import JobOperator

PAGE = (Path(__file__).parents[2] / "docs/reference/provider.md").read_text()


def test_the_examples_are_dags_that_airflow_imports(tmp_path: Path):
    from airflow.dag_processing.dagbag import DagBag

    for number, example in enumerate(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)):
        if "with DAG(" in example:
            (tmp_path / f"example_{number}.py").write_text(example)

    bag = DagBag(tmp_path)

    assert bag.import_errors == {}
    assert [task.task_id for task in bag.dags["images"].tasks] == ["warm", "free"]


def test_every_operator_and_argument_is_in_the_reference():
    classes = [getattr(operators, name) for name in operators.__all__ if name.endswith("Operator")]
    arguments = {
        name
        for operator in (*classes, JobOperator)
        for name, parameter in inspect.signature(operator.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }

    named = set(re.findall(r"`(\w+)(?:=[^`]*)?`", PAGE))
    assert {operator.__name__ for operator in classes} <= named
    assert arguments <= named, arguments - named


def test_what_may_be_a_template_is_marked_so():
    many, fluid = operators.PreloadManyOperator, operators.FluidDataLoadOperator

    assert marked("## Operators") == set(JobOperator.template_fields)
    assert marked("### Many datasets") == set(many.template_fields) - set(operators.PreloadOperator.template_fields)
    assert marked("### Fluid") | {"deadline"} == set(fluid.template_fields)


def marked(heading: str) -> set[str]:
    """Return what has a dagger in the tables' first columns, from a heading to the next one."""
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n##")[0]
    cells = re.findall(r"^\|([^|]*)\|", section, flags=re.MULTILINE)
    return set(re.findall(r"`(\w+)` †", " ".join(cells)))
