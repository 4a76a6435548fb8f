"""What a trusted key signed counts as if it had run here, and nothing else that a remote brings does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers import Ar, git, run

from ar.agents import account
from ar.campaign.campaign import Campaign
from ar.errors import CannotPromote
from ar.git import refs, signatures
from ar.git.references import ZERO
from ar.git.repo import Repo
from ar.git.signatures import PublicKey, Signer
from ar.history import exchange, statements
from ar.history.records import History, Outcome
from ar.history.spend import Spend
from ar.local import trusted
from ar.project.project import Project

WON = {"decision": "promote", "reason": "Much better.", "effect": -1.0, "runs": 9, "base_runs": 9, "z": 9.0}
LOST = {"decision": "discard", "reason": "Worse.", "effect": 1.0, "runs": 3, "base_runs": 3, "z": -3.0}
OPEN = {"decision": "open", "reason": "Another run.", "runs": 1}


def _key(folder: Path, name: str) -> PublicKey:
    run(folder, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name))
    key = PublicKey.parse((folder / f"{name}.pub").read_text())
    assert key is not None
    return key


def _signs_with(root: Path, file: Path) -> None:
    run(root, "git", "config", "gpg.format", "ssh")
    run(root, "git", "config", "user.signingKey", str(file))


@pytest.fixture
def key(tmp_path: Path) -> PublicKey:
    return _key(tmp_path, "laptop")


@pytest.fixture
def bench(project: Path, tmp_path: Path, key: PublicKey) -> tuple[Repo, Repo]:
    """Two clones that meet at a bare repository: the first signs with the key."""
    folder = tmp_path / "remote.git"
    run(tmp_path, "git", "init", "-q", "--bare", str(folder))
    run(project, "git", "push", "-q", str(folder), "main")
    for name in ("one", "two"):
        run(tmp_path, "git", "clone", "-q", str(folder), name)
    _signs_with(tmp_path / "one", tmp_path / key.name)
    return Repo.open(tmp_path / "one"), Repo.open(tmp_path / "two")


def _add(repo: Repo, name: str, verdict: Any = WON) -> str:
    head = repo.head()
    text = f"{name}\n\nAr-Agent: search\nAr-Candidate: c-{name}\nAr-Seed: 1\n"
    tree = repo.write_tree(repo.tree(head), {"m.json": b'{"val_loss": 0.5}'})
    rev = repo.commit_tree(tree, [head], text)
    repo.update_note(rev, lambda _: {"status": "succeeded", "verdict": verdict})
    repo.update_refs((str(refs.ExperimentRef(head, name)), rev, ZERO))
    return rev


def _history(repo: Repo) -> History:
    return Campaign(Project.open(repo.root)).history()


def _outcomes(repo: Repo) -> dict[str, Outcome]:
    return {item.name: item.outcome for item in _history(repo).shown}


def test_what_a_trusted_key_signed_counts_and_the_rest_is_foreign(
    bench: tuple[Repo, Repo], key: PublicKey
) -> None:
    one, two = bench
    _add(one, "good")
    assert exchange.push(one, "origin").signed == 1
    trusted.add(two, key)
    assert exchange.pull(two, "origin").vouched == 1
    assert _outcomes(two)["good"] is Outcome.WINNER
    assert not _history(two).pulled
    # Later, unsigned.
    run(one.root, "git", "config", "--unset", "user.signingKey")
    _add(one, "other")
    assert exchange.push(one, "origin").signed == 0
    assert exchange.pull(two, "origin").vouched == 0
    assert _outcomes(two) == {"good": Outcome.WINNER, "other": Outcome.PULLED}


def test_trust_may_come_after_the_pull_and_go_again(bench: tuple[Repo, Repo], key: PublicKey, ar: Ar) -> None:
    one, two = bench
    _add(one, "good")
    exchange.push(one, "origin")
    exchange.pull(two, "origin")
    assert _outcomes(two)["good"] is Outcome.PULLED
    ar(two.root, "trust", str(one.root.parent / f"{key.name}.pub"))
    assert _outcomes(two)["good"] is Outcome.WINNER
    assert key.fingerprint in ar(two.root, "trust").stdout
    trusted.path(two).write_text("")
    assert _outcomes(two)["good"] is Outcome.PULLED
    ar(two.root, "trust", key.line)
    ar(two.root, "trust", *key.line.split())
    assert list(trusted.read(two)) == [key.fingerprint]
    assert _outcomes(two)["good"] is Outcome.WINNER


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5",
        "ssh-rsa \x1b[2J x",
        'cert-authority,command="x" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==',
        "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAA",
        "\u2028",
    ],
)
def test_what_is_no_key_is_none(line: str) -> None:
    assert PublicKey.parse(line) is None


def test_a_private_key_is_not_taken_for_one_nor_shown(
    bare: Path, tmp_path: Path, key: PublicKey, ar: Ar
) -> None:
    done = ar(bare, "trust", str(tmp_path / key.name), check=False)
    assert done.returncode == 2
    assert "PRIVATE" not in done.stdout + done.stderr


def _push_all(repo: Repo) -> None:
    names = ("refs/exps/*", "refs/notes/*", "refs/ar/signed", "refs/ar/spend")
    known = [name for name in names if "*" in name or repo.has_ref(name)]
    run(repo.root, "git", "push", "-qf", "--prune", "origin", *(f"{name}:{name}" for name in known))


@pytest.fixture
def evil(bench: tuple[Repo, Repo], tmp_path: Path) -> Repo:
    """A clone of somebody who may push, and has what the trusted key signed, but not the key."""
    one, _ = bench
    _add(one, "good", OPEN)
    _add(one, "bad", LOST)
    account.record(one, "claude", Spend(100, 0, 10))
    exchange.push(one, "origin")
    run(tmp_path, "git", "clone", "-q", "remote.git", "evil")
    repo = Repo.open(tmp_path / "evil")
    exchange.pull(repo, "origin")
    _key(tmp_path, "other")
    _signs_with(tmp_path / "evil", tmp_path / "other")
    return repo


def _change_note(repo: Repo) -> None:
    for rev in statements.experiments(repo).values():
        repo.update_note(rev, lambda note: {**note, "verdict": WON})


def _change_commit(repo: Repo) -> None:
    """The signed ref and note, with another commit."""
    for ref, rev in statements.experiments(repo).items():
        tree = repo.write_tree(repo.tree(rev), {"m.json": b'{"val_loss": 0.0001}'})
        fake = repo.commit_tree(tree, [repo.head()], repo.commit(rev).message)
        repo.update_note(fake, lambda _, rev=rev: repo.note(rev))
        repo.update_refs((ref, fake, rev))


def _rename(repo: Repo) -> None:
    for ref, rev in statements.experiments(repo).items():
        repo.update_refs((f"{ref}-again", rev, ZERO), (ref, ZERO, rev))


def _move_baseline(repo: Repo) -> None:
    root = git(repo.root, "rev-list", "--max-parents=0", "HEAD")
    for ref, rev in statements.experiments(repo).items():
        repo.update_refs((str(refs.ExperimentRef(root, refs.name_of(ref))), rev, ZERO), (ref, ZERO, rev))


def _drop_note(repo: Repo) -> None:
    repo.update_refs((refs.NOTES, ZERO, None))
    run(repo.root, "git", "push", "-q", "origin", f":{refs.NOTES}")


def _say_it_again(repo: Repo) -> None:
    """Everything changed, and the statement made anew: with the other key, under the name of the first."""
    [told] = repo.log(refs.SIGNED)
    _change_commit(repo)
    exchange.push(repo, "origin")
    lines = tuple(
        f"{ref} {rev} {repo.note_files(repo.resolve(refs.NOTES))[rev][1]}"
        for ref, rev in statements.experiments(repo).items()
    )
    text = statements.Statement(measured=lines).to_json()
    title, _, rest = told.message.partition("\n\n")
    signature = rest.partition("\n")[2]
    repo.append(refs.SIGNED, f"{title}\n\n{json.dumps(text)}\n{signature}")
    signer = Signer.configured(repo)
    assert signer is not None
    repo.append(refs.SIGNED, f"{title}\n\n{json.dumps(text)}\n{signer.sign(json.dumps(text))}")


def _sign_for_git(repo: Repo) -> None:
    """A signature of the trusted key, made for git: as whoever has it may have signed anything."""
    _change_commit(repo)
    _push_all(repo)
    lines = tuple(
        f"{ref} {rev} {repo.note_files(repo.resolve(refs.NOTES))[rev][1]}"
        for ref, rev in statements.experiments(repo).items()
    )
    text = json.dumps(statements.Statement(measured=lines).to_json())
    key = repo.root.parent / "laptop"
    for space in ("git", "file", "results"):
        command = ("ssh-keygen", "-Y", "sign", "-n", space, "-f", str(key))
        signature = subprocess.run(
            command, input=text.encode(), capture_output=True, check=True
        ).stdout.decode()
        repo.append(refs.SIGNED, f"Signed\n\n{text}\n{signature}")


ATTACKS = (_change_note, _change_commit, _rename, _move_baseline, _drop_note, _say_it_again, _sign_for_git)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_signature_serves_for_anything_else(
    bench: tuple[Repo, Repo], key: PublicKey, evil: Repo, attack: Any
) -> None:
    two = bench[1]
    attack(evil)
    _push_all(evil)
    trusted.add(two, key)
    assert exchange.pull(two, "origin").vouched == 0
    assert set(_outcomes(two).values()) == {Outcome.PULLED}


def test_the_same_untouched_counts(bench: tuple[Repo, Repo], key: PublicKey, evil: Repo) -> None:
    two = bench[1]
    _push_all(evil)
    trusted.add(two, key)
    assert exchange.pull(two, "origin").vouched == 2
    assert account.total(two) == Spend(100, 0, 10)


def test_once_vouched_for_no_remote_changes_it(bench: tuple[Repo, Repo], key: PublicKey, evil: Repo) -> None:
    two = bench[1]
    trusted.add(two, key)
    exchange.pull(two, "origin")
    before = dict(two.notes())
    _change_note(evil)
    _push_all(evil)
    exchange.pull(two, "origin")
    assert dict(two.notes()) == before


def test_a_signed_verdict_comes_later_but_overturns_none(bench: tuple[Repo, Repo], key: PublicKey) -> None:
    one, two = bench
    trusted.add(two, key)
    revs = {name: _add(one, name, OPEN) for name in ("a", "b")}
    exchange.push(one, "origin")
    exchange.pull(two, "origin")
    two.update_note(revs["b"], lambda note: {**note, "verdict": LOST})
    for rev in revs.values():
        one.update_note(rev, lambda note: {**note, "verdict": WON})
    exchange.push(one, "origin")
    exchange.pull(two, "origin")
    assert _outcomes(two) == {"a": Outcome.WINNER, "b": Outcome.DISCARDED}


def test_own_verdicts_are_not_overturned_by_a_trusted_key(bench: tuple[Repo, Repo], tmp_path: Path) -> None:
    one, two = bench
    other = _key(tmp_path, "desktop")
    _signs_with(two.root, tmp_path / "desktop")
    trusted.add(one, other)
    rev = _add(one, "mine", LOST)
    exchange.push(one, "origin")
    exchange.pull(two, "origin")
    two.update_note(rev, lambda note: {**note, "verdict": WON})
    exchange.push(two, "origin")
    exchange.pull(one, "origin")
    assert _outcomes(one) == {"mine": Outcome.DISCARDED}


def test_trust_does_not_go_on_to_whom_the_trusted_trust(
    bench: tuple[Repo, Repo], tmp_path: Path, key: PublicKey
) -> None:
    """The second trusts the first and judges its experiment; the third trusts the second alone, then both."""
    one, two = bench
    run(tmp_path, "git", "clone", "-q", "remote.git", "three")
    three, second = Repo.open(tmp_path / "three"), _key(tmp_path, "desktop")
    _signs_with(two.root, tmp_path / "desktop")
    trusted.add(two, key)
    rev = _add(one, "good", OPEN)
    exchange.push(one, "origin")
    exchange.pull(two, "origin")
    two.update_note(rev, lambda note: {**note, "verdict": WON})
    exchange.push(two, "origin")
    trusted.add(three, second)
    exchange.pull(three, "origin")
    assert _outcomes(three) == {"good": Outcome.PULLED}
    trusted.add(three, key)
    assert statements.vouch(three) == 1
    assert _outcomes(three) == {"good": Outcome.WINNER}


def test_a_push_signs_what_is_new_and_again_what_changed(bench: tuple[Repo, Repo]) -> None:
    one, _ = bench
    rev = _add(one, "a", OPEN)
    assert exchange.push(one, "origin").signed == 1
    assert exchange.push(one, "origin").signed == 0
    one.update_note(rev, lambda note: {**note, "verdict": WON})
    assert exchange.push(one, "origin").signed == 1
    assert len(one.log(refs.SIGNED)) == 2


def test_hostile_statements_end_nothing(bench: tuple[Repo, Repo], key: PublicKey, evil: Repo) -> None:
    two = bench[1]
    [told] = evil.log(refs.SIGNED)
    signature = told.message[told.message.index("-----BEGIN") :]
    cut = f"{signature[:60]}\n-----END SSH SIGNATURE-----\n"
    for text in ("", "x" * 70_000, '{"measured": 1}', '{"measured": ["a b c d", "a"]}', "[" * 9999):
        for each in (
            signature,
            cut,
            signature.replace("U", "V"),
            signature * 2,
            f"{signature}{'A' * 99_999}",
        ):
            evil.append(refs.SIGNED, f"Signed\n\n{text}\n{each}")
    _push_all(evil)
    trusted.add(two, key)
    assert exchange.pull(two, "origin").vouched == 2


def test_a_key_that_is_gone_is_said_and_nothing_is_held_up(
    bench: tuple[Repo, Repo], tmp_path: Path, ar: Ar
) -> None:
    one, _ = bench
    _add(one, "a")
    (tmp_path / "laptop").unlink()
    done = ar(one.root, "push")
    assert "Not signed" in done.stderr
    assert "1 experiment" in done.stdout


def test_a_key_may_be_named_itself_and_git_may_sign_by_another_program(
    bench: tuple[Repo, Repo], tmp_path: Path, key: PublicKey
) -> None:
    one, _ = bench
    program = tmp_path / "signer"
    program.write_text(f'#!/bin/sh\nexec ssh-keygen -Y sign -n "$4" -f {tmp_path / "laptop"}\n')
    program.chmod(0o755)
    run(one.root, "git", "config", "gpg.ssh.program", str(program))
    run(one.root, "git", "config", "user.signingKey", f"key::{key.line}")
    signer = Signer.configured(one)
    assert signer is not None
    assert signatures.holds(key, "text", signer.sign("text"))
    assert not signatures.holds(key, "other", signer.sign("text"))


def test_a_winner_that_counts_is_merged_only_if_it_is_whole(bench: tuple[Repo, Repo], key: PublicKey) -> None:
    """Whoever is trusted may err: integrity is checked on this machine, whoever measured it."""
    from ar.campaign import promotion

    one, two = bench
    head = one.head()
    tree = one.write_tree(
        one.tree(head), {"m.json": b'{"val_loss": 0.5}', "program.md": b"---\nsandbox: off\n---\n"}
    )
    rev = one.commit_tree(tree, [head], "Bad\n\nAr-Agent: search\nAr-Candidate: c\nAr-Seed: 1\n")
    one.update_note(rev, lambda _: {"status": "succeeded", "verdict": WON})
    one.update_refs((str(refs.ExperimentRef(head, "bad")), rev, ZERO))
    exchange.push(one, "origin")
    trusted.add(two, key)
    exchange.pull(two, "origin")
    history = _history(two)
    [attempt] = history.attempts
    assert attempt.outcome is Outcome.WINNER
    for force in (False, True):
        with pytest.raises(CannotPromote, match=r"program\.md"):
            promotion.plan(Project.open(two.root), history, attempt, force=force)
