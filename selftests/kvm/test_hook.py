"""The hook from end to end: the C library in a stand-in for QEMU on a stand-in for KVM, and the client's own checks."""

import socket
import time
from pathlib import Path

import pytest
from cpuidlab.base.errors import GivenUpError, LabError
from cpuidlab.kvm.cpuid import Entry
from cpuidlab.kvm.hook import Hook
from cpuidlab.kvm.hook_answers import Answer, Where
from cpuidlab.kvm.hook_log import HookEvent, parse_log, sets_by_qemu
from fakehook import QEMUS_MODEL, Script, SocketStream, compiled, qemu

ACCEPTED, EINVAL = Answer(0, 0), Answer(-1, 22)
OTHER = (*QEMUS_MODEL[:2], Entry(2, 1, 1, 5, 6, 7, 8, (9, 10, 11)))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("built"))


@pytest.mark.parametrize("kvm", [{}, {"FAKEKVM_ECHO": "1"}], ids=["from 6.5", "before 6.5"])
def test_held_vcpu_takes_any_model_and_reads_it_back(built: Path, tmp_path: Path, kvm: dict[str, str]) -> None:
    with qemu(built, tmp_path, **kvm) as fake:
        fake.do("create 0")
        fake.do("set 0 3")
        hook = fake.client()
        assert hook.get(0) == QEMUS_MODEL
        assert [(v.id, v.nent, v.has_run, v.runs) for v in hook.list()] == [(0, 3, False, 0)]
        assert hook.set(0, OTHER) == ACCEPTED
        assert hook.get(0) == (*OTHER[:2], Entry(2, 1, 1, 5, 6, 7, 8))
        assert hook.set(0, OTHER[:1], nent=2) == ACCEPTED
        assert hook.get(0) == (OTHER[0], Entry(0, 0, 0, 0, 0, 0, 0))
        assert hook.set(0, ()) == ACCEPTED
        assert hook.get(0) == ()
        assert hook.list()[0].nent == 3


def test_the_programs_that_qemu_starts_have_no_hook(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        assert fake.do("preload") == Answer(0, 0)


def test_old_call_loses_index_and_flags(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        hook = fake.client()
        assert hook.set(0, OTHER, 1) == ACCEPTED
        assert hook.get(0) == (*OTHER[:2], Entry(2, 0, 0, 5, 6, 7, 8))


def test_refusals_are_data(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        hook = fake.client()
        for call in (1, 2):
            assert hook.set_bad_pointer(0, call).word == "EFAULT"
            assert hook.set_bad_pointer(0, call, nent=3).word == "EFAULT"
            assert hook.set_bad_pointer(0, call, nent=257).word == "E2BIG"  # the count itself can be read
            assert hook.set(0, QEMUS_MODEL, call, nent=257).word == "E2BIG"
        assert Answer(0, 0).word == "accepted"
        assert Answer(-1, 9999).word == "errno 9999"


@pytest.mark.parametrize("refused", [False, True])
def test_the_log_tells_of_registers_that_kvm_refuses(built: Path, tmp_path: Path, refused: bool) -> None:
    with qemu(built, tmp_path, **{"FAKEKVM_NO_SREGS": "1"} if refused else {}) as fake:
        fake.do("create 3")
        assert fake.do("sregs 3") == (EINVAL if refused else ACCEPTED)
        assert fake.events() == ["create  3", *(["sregs_refused  3"] if refused else [])]


def test_the_same_call_many_times_in_a_row(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_FORBID="1") as fake:
        fake.do("create 0")
        fake.do("set 0 3")
        hook = fake.client()
        row = hook.set_row(500, 0, OTHER)
        assert (row.answer, row.times, row.other) == (ACCEPTED, 500, None)
        assert 0 < row.tenth <= row.median <= row.ninetieth <= row.longest < 1
        assert [hook.set_row(20, 0, None, call, nent).answer.word for call in (1, 2) for nent in (None, 3, 257)] == [
            "EFAULT", "EFAULT", "E2BIG"
        ] * 2  # fmt: skip
        fake.start()
        assert hook.set_row(300, 0, OTHER, live=True).answer == ACCEPTED
        assert hook.set_row(300, 0, QEMUS_MODEL, live=True).answer == EINVAL
        with pytest.raises(LabError, match="vcpu is running"):
            hook.set_row(300, 0, OTHER)
        fake.do("stop 0")
        sets = [event for event in parse_log(fake.log.read_text()) if event.kind.startswith("set_cpuid")]
        assert [(event.by, event.word, event.times) for event in sets[:3] + sets[-2:]] == [
            ("qemu", "accepted", 1),
            ("hook", "accepted", 500),
            ("hook", "EFAULT", 20),
            ("hook", "accepted", 300),
            ("hook", "EINVAL", 300),
        ]


def test_a_row_ends_with_the_first_call_that_is_answered_otherwise(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_FORGETS="7") as fake:
        fake.do("create 0")
        fake.do("set 0 3")
        fake.start()
        fake.do("stop 0")
        row = fake.client().set_row(500, 0, OTHER)
        assert (row.answer, row.times, row.other) == (EINVAL, 6, ACCEPTED)
        sets = [event for event in parse_log(fake.log.read_text()) if event.by == "hook"]
        assert [(event.word, event.times) for event in sets] == [("EINVAL", 6), ("accepted", 1)]


def test_a_row_ends_when_its_time_is_over(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_SLOW_US="20000") as fake:
        fake.do("create 0")
        row = fake.client().set_row(500, 0, OTHER, seconds=0.1)
        assert 1 <= row.times <= 5
        assert 0.02 <= row.median < 1
        assert fake.client().set_row(500, 0, OTHER, seconds=0).times == 1


@pytest.mark.parametrize("lines", [["ok median=1 tenth=1 ninetieth=1 max=1"], ["a 0 0 5", "ok 5"], ["x", "ok 5"]])
def test_a_row_that_is_garbled_is_a_lab_failure(lines: list[str]) -> None:
    with pytest.raises(LabError, match="broke its protocol"):
        Hook(Script(*lines)).set_row(5, 0, ())


def test_a_row_without_the_state_around_it_is_a_lab_failure() -> None:
    with pytest.raises(LabError, match="the state of vCPU 0 was not read"):
        Hook(Script("a 0 0 5", "ok median=1 tenth=1 ninetieth=1 max=1")).set_row(5, 0, ())


def test_where_a_vcpu_is_held_and_running(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        hook = fake.client()
        assert hook.where(0) == Where(0xFFFFFFFF81A0B2AB, 3, runs=True)
        fake.do("mp 0 3")  # KVM_MP_STATE_HALTED
        fake.start()
        with pytest.raises(LabError, match="vcpu is running"):
            hook.where(0)
        assert hook.where(0, live=True) == Where(0xFFFFFFFF81A0B2AB, 3, runs=False)
        fake.do("stop 0")
        with pytest.raises(LabError, match="err 110"):
            hook.where(0, live=True, seconds=0.1)
        assert fake.events() == ["create  0", "first_run  0"]


def test_where_a_vcpu_is_that_kvm_has_given_up(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_BUGGED="1") as fake:
        fake.do("create 0")
        with pytest.raises(LabError, match="the registers cannot be read"):
            fake.client().where(0)


def test_nested_state_is_loaded_before_the_first_run_only(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        fake.do("set 0 3")
        hook = fake.client()
        hook.load_l2(0)
        assert hook.set(0, OTHER) == EINVAL
        assert hook.set(0, QEMUS_MODEL) == ACCEPTED
        assert [(e.vcpu, e.errno) for e in parse_log(fake.log.read_text()) if e.kind == "l2"] == [(0, 0)]
        fake.start()
        fake.do("stop 0")
        with pytest.raises(LabError, match="vcpu has run"):
            hook.load_l2(0)


def test_nested_state_that_is_not_taken(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_NO_L2="1") as fake:
        fake.do("create 0")
        with pytest.raises(LabError, match="KVM takes no nested state for vCPU 0: EINVAL"):
            fake.client().load_l2(0)


def test_a_vm_that_kvm_has_given_up(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_BUGGED="1") as fake:
        fake.do("create 0")
        with pytest.raises(GivenUpError):
            fake.client().get(0)


def test_stopped_after_run(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_FORBID="1") as fake:
        fake.do("create 0")
        fake.do("set 0 3")
        fake.start()
        with pytest.raises(LabError, match="vcpu is running"):
            fake.client().set(0, OTHER)
        fake.do("stop 0")
        hook = fake.client()
        assert hook.list()[0].has_run
        assert hook.set(0, QEMUS_MODEL) == ACCEPTED
        assert hook.set(0, OTHER) == EINVAL
        assert hook.get(0) == QEMUS_MODEL


def test_live_is_done_in_the_vcpus_thread_while_it_runs(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        fake.start()
        hook = fake.client()
        assert hook.set(0, QEMUS_MODEL, live=True) == ACCEPTED
        assert hook.get(0, live=True) == QEMUS_MODEL
        assert hook.set_bad_pointer(0, live=True).word == "EFAULT"
        assert hook.list()[0].runs >= 4
        fake.do("stop 0")


def test_live_request_that_timed_out_is_never_done(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        fake.do("set 0 3")
        hook = fake.client()
        for _ in range(2):  # the first must not be in the way of the second
            with pytest.raises(LabError, match="err 110"):
                hook.set(0, OTHER, live=True, seconds=0.1)
        fake.start()
        fake.do("stop 0")
        assert fake.client().get(0) == QEMUS_MODEL
        assert "set_cpuid2 hook 0" not in fake.events()


def test_log_tells_everything_in_order(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_FORBID="1") as fake:
        fake.do("create 0")
        fake.do("set 0 3")
        fake.client().set(0, OTHER)
        fake.do("exit 0 8")  # KVM_EXIT_SHUTDOWN
        fake.start()
        fake.do("stop 0")
        assert fake.do("set 0 3") == EINVAL  # QEMU must still see the errno
        fake.client().set(0, OTHER, 1)
        fake.do("exit 0 65535")
        fake.start()
        fake.do("stop 0")
        events = parse_log(fake.log.read_text())
    [*_, (vcpu, answer)] = sets_by_qemu(events)  # on a vCPU that has run, so that its state was watched
    assert (vcpu, answer.word, [one.field for one in answer.differences]) == (0, "EINVAL", ["0x10"])
    events = tuple(event for event in events if event.kind != "state")
    told = [(e.kind, e.by, e.nent, e.ret, e.errno) for e in events]
    assert told == [
        ("create", None, None, None, None),
        ("set_cpuid2", "qemu", 3, 0, 0),
        ("set_cpuid2", "hook", 3, 0, 0),
        ("first_run", None, None, None, None),
        ("shutdown", None, None, None, None),
        ("set_cpuid2", "qemu", 3, -1, 22),
        ("set_cpuid", "hook", 3, -1, 22),
        ("run_failed", None, None, None, 14),
    ]
    assert [e.seconds for e in events] == sorted(e.seconds for e in events)
    assert abs(time.monotonic() - events[-1].seconds) < 60


@pytest.mark.parametrize(("reason", "kind"), [(9, "fail_entry"), (17, "internal_error")])
def test_other_ends_of_a_guest_are_logged(built: Path, tmp_path: Path, reason: int, kind: str) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 3")
        fake.do(f"exit 3 {reason}")
        fake.start(3)
        fake.do("stop 3")
        assert fake.events() == ["create  3", "first_run  3", f"{kind}  3"]


def test_ap_that_waits_for_its_sipi_has_not_run(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        fake.do("mp 0 1")  # KVM_MP_STATE_UNINITIALIZED
        fake.start()
        fake.do("stop 0")
        assert [(v.has_run, v.runs > 0) for v in fake.client().list()] == [(False, True)]
        fake.do("mp 0 0")
        fake.start()
        fake.do("stop 0")
        assert fake.client().list()[0].has_run


def test_parked_vcpu_stays_and_a_fresh_one_in_the_same_fd_starts_anew(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fd = fake.do("create 0").ret
        fake.do("set 0 3")
        fake.start()
        fake.do("stop 0")  # unplugged: the thread is gone, QEMU keeps the file
        with pytest.raises(LabError, match="err 110"):
            fake.client().get(0, live=True, seconds=0.1)
        assert fake.client().list()[0].has_run
        fake.do("close 0")
        assert fake.do("create 1").ret == fd
        assert [(v.id, v.fd, v.nent, v.has_run, v.runs) for v in fake.client().list()] == [(1, fd, 0, False, 0)]


def test_socket_is_private_and_replaces_a_stale_one(built: Path, tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "hook.sock"))
    stale.close()
    with qemu(built, tmp_path) as fake:
        assert fake.socket.stat().st_mode & 0o777 == 0o600
        assert fake.client().list() == ()


def test_odd_clients_disturb_nobody(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        fake.do("set 0 3")
        silent, half = SocketStream(fake.socket), SocketStream(fake.socket)
        half.send(b"set 0 2 3 3\ne 0 0 0 1")
        gone = SocketStream(fake.socket)
        gone.send(b"get 0\n" * 100)
        gone.socket.close()
        fake.start()
        assert fake.client().get(0, live=True) == QEMUS_MODEL
        assert fake.do("stop 0") == ACCEPTED
        silent.send(b"list\n")
        assert silent.recv_line(time.monotonic() + 5).startswith("vcpu 0 ")


def test_a_client_that_says_nothing_does_not_keep_qemu_from_its_exit(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        client = fake.client()
        assert client.list() == ()  # the hook's thread waits for its next request from here on
        assert fake.process.stdin
        fake.process.stdin.write("quit\n")
        fake.process.stdin.flush()
        assert fake.process.wait(timeout=5) == 0


@pytest.mark.parametrize(
    "request_line",
    ["", "x", "get", "get 0 1", "set 0 3 1 0", "set 0 2 5000 0", "set 0 2 1 1\ne 1 2",
     "set 0 2 1 1\ne 1 2 3 4 5 6 7 8 9 z",
     "sweep", "sweep 0 1", "live 5 sweep 0",
     "state", "state 0", "state 0 3", "live 5 state 0 1",
     "many 5 set 0 2 0 0", "many 0 5 set 0 2 0 0", "many 5 5 get 0", "many 5 5 sweep 0", "many 100001 5 badptr 0 2",
     "many 5 -1 badptr 0 2", "many 5 60001 badptr 0 2", "many 5 5", "many 5 5 live 5 badptr 0 2",
     "many -1 5 badptr 0 2",
     "badptr 0 3", "badptr 0 2 5000", "badptr 0 2 1 1", "l2", "l2 0 1", "live 5 l2 0",
     "live 5", "live -1 get 0", "live 99999 get 0", "live 5 list", "a" * 400],
)  # fmt: skip
def test_bad_request_is_refused(built: Path, tmp_path: Path, request_line: str) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        stream = SocketStream(fake.socket)
        stream.send(f"{request_line}\n".encode())
        assert stream.recv_line(time.monotonic() + 5) == "err 22 bad request"
        assert fake.client().list()[0].id == 0


def test_unknown_vcpu_is_told_and_the_connection_goes_on(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        stream = SocketStream(fake.socket)
        stream.send(b"get 7\nset 7 2 1 1\ne 1 2 3 4 5 6 7 0 0 0\nlist\n")
        lines = [stream.recv_line(time.monotonic() + 5) for _ in range(3)]
        assert lines == ["err 2 no such vcpu", "err 2 no such vcpu", "ok vcpus=0"]


def test_without_the_socket_variable_the_hook_does_nothing(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, CPUIDHOOK_SOCKET="") as fake:
        assert fake.do("create 0").ret > 0
        assert not fake.socket.exists()
        assert not fake.log.exists()


@pytest.mark.parametrize(
    "lines",
    [[], ["hello", "ok vcpus=1"], ["ok vcpus=2"], ["ok"], [""], ["vcpu 0 fd=1 nent=2 has_run=7 runs=1", "ok vcpus=1"]],
)
def test_broken_protocol_is_a_lab_failure_and_ends_the_connection(lines: list[str]) -> None:
    hook = Hook(Script(*lines))
    with pytest.raises(LabError):
        hook.list()
    with pytest.raises(LabError, match="open a new one"):
        hook.list()


def test_set_wants_just_one_line() -> None:
    with pytest.raises(LabError, match="'e 1'"):
        Hook(Script("e 1", "ok ret=0 errno=0")).set(0, ())


def test_torn_last_line_of_the_log_is_left_out() -> None:
    whole = "1.000000005 set_cpuid2 by=qemu vcpu=0 nent=31 ret=-1 errno=22\n"
    assert parse_log(whole + "2.000000001 shutd") == (
        HookEvent(1.000000005, "set_cpuid2", 0, by="qemu", nent=31, ret=-1, errno=22),
    )
    assert parse_log("") == ()


@pytest.mark.parametrize("line", ["rubbish", "1.5 create vcpu=0", "1.000000001 create vcpu=x", "1.000000001 create"])
def test_garbage_in_the_log_is_a_lab_failure(line: str) -> None:
    with pytest.raises(LabError, match="never writes"):
        parse_log(line + "\n")
