"""Settings that differ between runs, and the labels made from them."""

from crescent.reading.differing_settings import (
    DifferingSetting,
    describe_runs,
    differing_settings,
    distinct,
    run_labels,
)


def test_runs_are_called_by_what_differs_where_that_is_shorter_and_tells_them_apart() -> None:
    names = ["a-rather-long-name-1", "a-rather-long-name-2", "a-rather-long-name-3"]

    def settings(**values: tuple[str, ...]) -> list[DifferingSetting]:
        of_run = {
            name: {key.replace("__", "."): of_runs[nth] for key, of_runs in values.items()}
            for nth, name in enumerate(names)
        }
        return list(differing_settings(of_run))

    votes = settings(consensus__samples=("3", "3", "5"), run__seed=("1", "2", "1"), eval__k=("3", "3", "5"))
    assert list(run_labels(votes, names).values()) == ["samples=3 seed=1", "samples=3 seed=2", "samples=5 seed=1"]
    assert describe_runs(votes, ["run.seed"])[names[0]] == "samples=3"
    alike = settings(consensus__samples=("3", "3", "5"))
    assert list(run_labels(alike, names).values()) == names, "two of them would be called the same"
    assert run_labels(votes, [name[-1] for name in names]) == {"1": "1", "2": "2", "3": "3"}, "not shorter"
    two = settings(bait__temperature=("1", "1", "2"), consensus__temperature=("1", "2", "1"))
    assert run_labels(two, names)[names[0]] == names[0], "longer than a name"
    enough = settings(samples=("1", "1", "2"), path=("a", "b", "c"), a_rather_long_one=("1", "2", "1"))
    assert list(run_labels(enough, names).values()) == ["path=a", "path=b", "path=c"], "that alone tells them apart"
    assert describe_runs(two)[names[1]] == "bait.temperature=1 consensus.temperature=2"
    many = settings(
        **{
            f"x__setting_number_{number}": (f"{number}1", f"{number}2", f"{number}{number % 3}")
            for number in range(3, 9)
        }
    )
    assert max(map(len, describe_runs(many).values())) <= 40, "as few settings as tell them apart"
    assert len(set(describe_runs(many).values())) == 3


def test_what_values_begin_with_is_left_out_where_it_hides_the_rest() -> None:
    paths = ['"/data/models/of/a/kind/Qwen2.5-7B"', '"/data/models/of/a/kind/Llama-3-8B"']
    assert list(distinct(paths, 16).values()) == ["…Qwen2.5-7B", "…Llama-3-8B"]
    assert list(distinct(['"a"', "3"], 16).values()) == ["a", "3"]
