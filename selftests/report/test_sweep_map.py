"""Maps of sweeps: to JSON and back, in words, as page and table, and the command."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.commands import cli, sweep
from cpuidlab.experiment.freeze import FreezeMap
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.sweep import ALL, OUTCOMES, WORDS, Bits, Outcome, Removal, Row, Sweep, owned
from cpuidlab.experiment.words import NOTE_WORDS
from cpuidlab.kernels.catalogue import CatalogueRow
from cpuidlab.kvm.cpuid import Model, with_field
from cpuidlab.kvm.fields import FIELDS
from cpuidlab.report import sweep_map, sweep_page
from cpuidlab.report.sweep_map import Map
from cpuidlab.report.sweep_text import described, difference, names, outcomes, summary
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.rig import GuestStart, RigFacts, Stage
from models import EPYC

REFUSES, TAKES = NOTE_WORDS[Note.ALL_REFUSED], NOTE_WORDS[Note.ALL_TAKEN]
LINEAR: Bits = {(0x80000008, 0, "eax"): FIELDS["linear_bits"].mask}


def swept(usual: Outcome, model: Model = EPYC, **special: Bits) -> Sweep:
    """A sweep in which all became `usual`, but these bits."""
    rows = []
    for entry in model:
        for word in WORDS:
            masks = dict.fromkeys(OUTCOMES, 0)
            for outcome in OUTCOMES:
                masks[outcome] = special.get(outcome, {}).get((entry.function, entry.index, word), 0)
            masks[usual] = ALL & ~sum(masks.values())
            rows.append(Row(entry.function, entry.index, word, getattr(entry, word), masks, {}))
    errno = "EINVAL" if usual == "refused" else ""
    return Sweep(tuple(rows), tuple(Removal(one.function, one.index, usual, errno) for one in model), 0.25)


def mapped(sweep: Sweep, host: str = "5.10", paging: str = "npt") -> Map:
    return Map(host, f"{host}.9-cloud-amd64", f"{host}.9-1", paging, "tcg", PROFILES["small"].cpu, "stable", sweep)


FREEZING = FreezeMap({"irqchip": ("accepted", "EINVAL", "EINVAL")}, ())
TAKING = swept("applied", refused=LINEAR, ignored=owned(EPYC))
REFUSING = swept("refused", ignored=owned(EPYC))
KEPT = "leaf 0x1 ECX.osxsave, EDX.apic; leaf 0x7 ECX.ospke; leaf 0xd EBX; leaf 0xd.1 EBX"


def test_the_model_is_in_the_sweep() -> None:
    assert TAKING.model == EPYC


def test_bits_that_kvm_keeps_are_those_of_the_model() -> None:
    assert described(owned(EPYC), TAKING) == KEPT
    assert owned(EPYC[:2]) == {}
    assert (7, 0, "ecx") in owned(with_field(EPYC, "pku", 0))


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        (TAKING, TAKES),
        (REFUSING, REFUSES),
        (swept("refused"), REFUSES),
        (swept("applied"), TAKES),
        (swept("refused", applied={(1, 0, "ecx"): 1 << 27}), "taken: leaf 0x1 ECX.osxsave; removals taken: none"),
        (swept("refused", ignored={(7, 0, "ebx"): 1}), "taken: leaf 0x7 EBX.fsgsbase; removals taken: none"),
        (swept("refused", other=owned(EPYC)), f"taken: {KEPT}; removals taken: none"),
        (replace(REFUSING, removals=TAKING.removals[:1]), "taken: nothing; removals taken: every leaf"),
    ],
)
def test_what_a_sweep_amounts_to(sweep: Sweep, words: str) -> None:
    assert summary(sweep) == words


def test_something_refused_among_what_is_taken() -> None:
    odd = swept("applied", refused={(1, 0, "ebx"): 0xF0F00, **LINEAR})
    told = "taken: every bit but leaf 0x1 EBX.clflush_size[11:8], EBX.logical_processors[19:16]; "
    assert summary(odd) == told + "leaf 0x80000008 EAX.linear_bits; removals taken: every leaf"


def test_outcomes_in_words() -> None:
    assert outcomes(REFUSING) == {"refused": f"every bit but {KEPT}", "applied": "", "ignored": KEPT, "other": ""}


@pytest.mark.parametrize(
    ("word", "mask", "said"),
    [
        ("ebx", ALL, ["EBX"]),
        ("flags", 1, ["flags[0]"]),
        ("ecx", 0x10010, ["ECX.ospke", "ECX.la57"]),
        ("ecx", 0x843F8000, ["ECX.la57", "ECX.mawau", "ECX.pks", "ECX[26,15]"]),
        ("ecx", 3 << 17, ["ECX.mawau[18:17]"]),
    ],
)  # fmt: skip
def test_names_of_bits(word: str, mask: int, said: list[str]) -> None:
    assert names((7, 0), word, mask) == said


def test_two_kernels_in_words() -> None:
    old, new = mapped(TAKING), mapped(REFUSING, "6.12")
    assert difference(old, old) == ()
    assert difference(old, replace(new, sweep=replace(TAKING, seconds=9.0))) == ()
    assert difference(old, new) == (
        "applied on 5.10 npt, refused on 6.12 npt: every bit but leaf 0x1 ECX.osxsave, EDX.apic; leaf 0x7 ECX.ospke; "
        "leaf 0xd EBX; leaf 0xd.1 EBX; leaf 0x80000008 EAX.linear_bits (1,685 bits)",
        "removal applied on 5.10 npt, refused EINVAL on 6.12 npt: every leaf",
        "by their versions one is of era silent, the other of forbid-changed "
        "(c6617c61e8fe, ee3a5f9e3d9b, 811f95ff9527, 5c89be1dd5cf, e2b43fb25243)",
    )
    lost = mapped(swept("refused", ignored={k: v for k, v in owned(EPYC).items() if k[0] != 7}), "7.3")
    assert difference(lost, new) == (
        "refused on 7.3 npt, ignored on 6.12 npt: leaf 0x7 ECX.ospke (1 bit); "
        "ospke is kept without PKU too since Linux 6.14, 1f66590d7ff0",
        "by their versions one is of era forbid-changed, the other of forbid-changed-l2 (b47b93c15b12)",
    )
    patched = replace(new, host="6.12+mine")
    assert not any("era" in line for line in difference(lost, patched))
    fewer = mapped(swept("refused", EPYC[:-1], ignored=owned(EPYC)), "7.3")
    assert difference(new, fewer)[:1] == ("in the model on 6.12 npt only: leaf 0x8000001f",)
    other_errno = mapped(replace(REFUSING, rows=(replace(REFUSING.rows[0], errnos={3: "EPERM"}), *REFUSING.rows[1:])))
    assert difference(new, other_errno)[:1] == ("leaf 0x40000001 flags[3]: errno usual on 6.12 npt, EPERM on 5.10 npt",)


@pytest.mark.parametrize("sweep", [TAKING, REFUSING])
def test_json_reads_back(sweep: Sweep, tmp_path: Path) -> None:
    odd = replace(sweep, rows=(replace(sweep.rows[0], errnos={31: "EPERM"}), *sweep.rows[1:]))
    sweep_map.write(mapped(odd), tmp_path / "map.json")
    assert sweep_map.read(tmp_path / "map.json") == mapped(odd)
    data = json.loads((tmp_path / "map.json").read_text())
    ospke = next(field for field in data["fields"] if field["name"] == "ospke")
    assert (ospke["leaf"], ospke["register"], ospke["bits"]) == ("0x7", "ecx", "4")
    assert "SDM" in ospke["source"]


def test_a_map_of_schema_1_is_read_without_a_freeze_part(tmp_path: Path) -> None:
    data = sweep_map.to_data(mapped(TAKING))
    del data["version"], data["freeze"]
    (tmp_path / "old.json").write_text(json.dumps(data | {"schema": 1}))
    found = sweep_map.read(tmp_path / "old.json")
    assert found == replace(mapped(TAKING), version="5.10.9-cloud-amd64")


def spoiled(change: Callable[[dict[str, Any]], object]) -> str:
    data = json.loads(json.dumps(sweep_map.to_data(mapped(TAKING))))
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"schema": 1}',
        spoiled(lambda d: d.update(schema=1)),
        spoiled(lambda d: d.update(schema=3)),
        spoiled(lambda d: d.update(freeze=7)),
        spoiled(lambda d: d.update(freeze={"calls": {"irqchip": {}}, "msrs": []})),
        spoiled(lambda d: d.update(host=5)),
        spoiled(lambda d: d.update(seconds="long")),
        spoiled(lambda d: d["rows"][0].update(refused="0xffffffff")),
        spoiled(lambda d: d["rows"][0].update(register="rax")),
        spoiled(lambda d: d["rows"][0].update(value="0x1ffffffff")),
        spoiled(lambda d: d["rows"][0].update(value=7)),
        spoiled(lambda d: d["rows"][0].pop("errnos")),
        spoiled(lambda d: d["removals"][0].update(outcome="lost")),
        spoiled(lambda d: d["removals"].append(7)),
    ],
)  # fmt: skip
def test_what_is_no_map_is_refused_in_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "map.json").write_text(text)
    good = tmp_path / "good.json"
    sweep_map.write(mapped(TAKING), good)
    assert cli.main(["sweep", "--diff", str(good), str(tmp_path / "map.json")]) == 2
    said = capsys.readouterr().err
    assert "map.json is no map of a sweep" in said
    assert said.count("\n") == 1


def test_page_and_table() -> None:
    evil = replace(mapped(REFUSING, "6.12<b>"), guest="not stable: <script>")
    maps = [mapped(TAKING), mapped(TAKING, paging="shadow"), evil]
    found = {leaf.name: leaf for leaf in sweep_page.leaves(maps)}
    osxsave = next(line for line in found["leaf 0x1"].lines if "ECX.osxsave" in line.names)
    assert (osxsave.names, osxsave.fates, osxsave.special) == (("ECX.osxsave",), ("ignored",) * 3, True)
    rest = next(line for line in found["leaf 0x1"].lines if "ECX.xsave" in line.names)
    assert (rest.fates, rest.special) == (("applied", "applied", "refused"), False)
    assert found["leaf 0x0"].lines[1].names == ("EAX", "max_leaf")
    assert found["leaf 0x0"].lines[-1].fates == ("applied", "applied", "refused")
    html, table = sweep_page.html(maps), sweep_page.markdown(maps)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "http" not in html
    assert "5.10 npt (and alike 5.10 shadow) and 6.12&lt;b&gt; npt" in html
    assert "| **ECX.osxsave** | ignored | ignored | ignored |" in table
    assert "\\<script\\>" in table
    assert len(sweep_page.differences(maps)) == 1
    assert "No two of them differ" in sweep_page.html(maps[:2])


def test_a_leaf_that_one_kernel_lacks_is_shown_so() -> None:
    leaf = sweep_page.leaves([mapped(TAKING), mapped(swept("applied", EPYC[:-1]))])[-1]
    assert leaf.name == "leaf 0x8000001f"
    assert {line.fates for line in leaf.lines} == {("applied", "absent")}


class FakeRig:
    deadline = None

    def open_barevm(self) -> None:
        """Nothing to talk to."""

    def __enter__(self) -> "FakeRig":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""

    def facts(self) -> RigFacts:
        return RigFacts(GuestStart.RESTORED, settings=("npt is back",))


def no_vm(monkeypatch: pytest.MonkeyPatch, stable: bool = True, lost: Mapping[str, str] | None = None) -> list[object]:
    """Put a lab without VMs below the command; `lost` names setups that fail. Returns the profiles asked for."""
    asked: list[object] = []
    guest = SimpleNamespace(stable=stable, troubles=("oops",))
    seen = SimpleNamespace(guest=guest, fate=SimpleNamespace(alive=True, how=None))

    def setup(host: str, paging: str, accel: str) -> SimpleNamespace:
        version = f"{host.partition('+')[0]}.9"
        kernel = SimpleNamespace(spec=host, label=host, version=version, release=version, digest=host)
        names = {"name": f"{host}-{paging}", "column": host}
        return SimpleNamespace(kernel=kernel, paging=paging, accel=accel, patience=1.0, **names)

    def open_rig(one: Any, stage: str, profile: object, deadline: object) -> FakeRig:
        if lost and one.name in lost:
            raise LabError(lost[one.name])
        if stage is Stage.GUEST_READY:
            asked.append(profile)
        return FakeRig()

    monkeypatch.setattr("cpuidlab.avocado_plugin.plan.setup", setup)
    monkeypatch.setattr(sweep, "guest_snapshot", lambda *_: None)
    monkeypatch.setattr(sweep, "open_rig", open_rig)
    monkeypatch.setattr(sweep, "BareKvm", lambda *_: None)
    monkeypatch.setattr(sweep, "freeze_map", lambda _: FREEZING)
    monkeypatch.setattr(sweep, "Guest", lambda _: SimpleNamespace(sweep=lambda vcpu: TAKING))
    monkeypatch.setattr(sweep, "observed", lambda _: seen)
    rows = [CatalogueRow(s, s, s, "x", True, lack) for s, lack in (("5.10", None), ("6.19", "lacks"), ("6.1", None))]
    monkeypatch.setattr("cpuidlab.kernels.catalogue.catalogue", lambda: [*rows, rows[0]])
    return asked


def test_all_hosts_in_both_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = no_vm(monkeypatch)
    assert cli.main(["sweep", "--host", "all,5.10+warning", "--to", str(tmp_path / "new" / "maps")]) == 0
    names = [f"{host}-{paging}.json" for host in ("5.10", "6.1", "5.10+warning") for paging in ("npt", "shadow")]
    folder = tmp_path / "new" / "maps"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "sweep.html", "sweep.md"])
    assert asked == [PROFILES["small"]] * 6
    said = capsys.readouterr().out
    assert said.count("flips alone: 0.250 s; guest afterwards: stable") == 6
    assert f"5.10 npt (5.10.9, tcg): {TAKES}" in said
    assert said.count("frozen by the first vCPU or its first run: calls: 1 of 1; feature MSRs: 0 of 0") == 6
    assert cli.main(["sweep", "--diff", str(folder / names[0]), str(folder / names[1])]) == 0
    assert capsys.readouterr().out == "no difference\n"


def test_a_map_under_kvm_is_named_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_vm(monkeypatch)
    monkeypatch.setattr("cpuidlab.avocado_plugin.plan.check_accel", lambda _: None)
    assert cli.main(["sweep", "--host", "5.10", "--paging", "npt", "--accel", "kvm", "--to", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "5.10-npt-kvm.json").read_text())["accel"] == "kvm"


def test_plain_data_and_another_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = no_vm(monkeypatch)
    words = ["sweep", "--host", "5.10", "--paging", "npt", "--cpu", "EPYC-Rome,pku=on", "--json", "--to", str(tmp_path)]
    assert cli.main(words) == 0
    assert asked == [replace(PROFILES["small"], cpu="EPYC-Rome,pku=on")]
    assert json.loads(capsys.readouterr().out)["maps"][0]["cpu"] == "EPYC-Rome,pku=on"
    assert (tmp_path / "5.10-npt-EPYC-Rome,pku=on.json").exists()


def test_one_that_fails_does_not_spoil_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_vm(monkeypatch, lost={"5.10-npt": "the VM was lost"})
    assert cli.main(["sweep", "--host", "5.10", "--to", str(tmp_path)]) == 125
    assert (tmp_path / "5.10-shadow.json").exists()
    assert "the VM was lost" in capsys.readouterr().err


def test_an_unstable_guest_is_exit_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_vm(monkeypatch, stable=False)
    assert cli.main(["sweep", "--host", "5.10", "--paging", "npt", "--to", str(tmp_path)]) == 1
    assert sweep_map.read(tmp_path / "5.10-npt.json").guest == "not stable: oops"


@pytest.mark.parametrize(
    "words",
    [[], ["--host", "5.10", "--diff", "a", "b"], ["--host", "nonsense"], ["--host", "5.10", "--paging", "ept"],
     ["--host", "5.10", "--cpu", "host; reboot"], ["--host", "5.10", "--host-cpu", "EPYC; reboot"],
     ["--host", "5.10", "--cpu", """ a'b"""], ["--host", ","],
     ["--diff", "no-such-file", "nor-this"]],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_2(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_vm(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_catalogue_may_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    no_vm(monkeypatch)
    monkeypatch.setattr("cpuidlab.kernels.catalogue.catalogue", list)
    assert cli.main(["sweep", "--host", "all"]) == 2
