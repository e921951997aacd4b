"""The table of mutants is of the library as it is now."""

import mutants

ALL = mutants.mutants()


def test_the_line_of_each_mutant_stands_in_its_file_once():
    for mutant in ALL:
        source = (mutants.ROOT / mutant.file).read_text(encoding="utf-8")
        assert compile(mutant.broken(source), mutant.file, "exec") and mutant.old != mutant.new


def test_each_mutant_has_a_name_of_its_own_and_a_file_of_tests():
    assert len({m.name for m in ALL}) == len(ALL)
    assert [m.name for m in ALL if not (mutants.ROOT / m.tests.split()[0]).exists()] == []
