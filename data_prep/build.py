"""Turn a list of jobs into audio files and one manifest, in parallel, so that a killed run never looks finished.

    OUT/.building/recipe.json      what is being made
    OUT/.building/audio/...        files so far, each written under another name and renamed
    OUT/.building/rows/JOB.json    manifest rows of a finished job, written after its audio
    OUT/audio/                     appears by rename when every job is done
    OUT/manifest.csv               then this
    OUT/prepared.json              then this marker, with the SHA-256 of the manifest: only now the folder is whole

A second run with the same recipe finds the marker and does nothing; after a kill it keeps finished jobs and makes the
rest. The content of a job depends on the job alone, never on the order or the number of processes, so 1 and 4 workers
write the same bytes.
"""

import contextlib
import hashlib
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from data_prep import manifest
from data_prep.corpus import PrepError
from data_prep.download import digests, write_text
from ganse_tf import data
from ganse_tf.version import __version__

MARKER = "prepared.json"
MORE_COLUMNS = (
    "gender", "part", "words", "n_samples", "clipped", "gain", "noise_offset", "room_t60", "sha256_noisy", "sha256_clean",
    "seed", "version",
)  # fmt: skip


def digest(value):
    """Short name of a recipe: the first 16 hex digits of the SHA-256 of its JSON text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def prepared(out):
    """The marker of a whole folder as a dict, or None when `out` was never finished (or was changed afterwards)."""
    out = Path(out)
    if not (out / MARKER).is_file():
        return None
    marker = json.loads((out / MARKER).read_text(encoding="utf-8"))
    if not (out / "manifest.csv").is_file() or not (out / "audio").is_dir():
        raise PrepError(f"{out / MARKER} says this folder is finished, but manifest.csv or audio/ is missing. {_again(out)}")
    if digests(out / "manifest.csv", "sha256")[0] != marker["manifest_sha256"]:
        raise PrepError(f"{out / 'manifest.csv'} was changed after it was made. {_again(out)}")
    return marker


def _again(out):
    return f"Delete {out / MARKER}, {out / 'manifest.csv'} and {out / 'audio'} (archives may stay) and run again."


def check_same(marker, recipe, out):
    """Refuse to mix two recipes in one folder."""
    if marker["digest"] != digest(recipe):
        different = sorted(
            key
            for key in {*recipe, *marker["recipe"]}
            if json.dumps(recipe.get(key), default=str) != json.dumps(marker["recipe"].get(key), default=str)
        )
        raise PrepError(
            f"{out} holds a finished {marker['recipe'].get('corpus', 'corpus')} made with other settings "
            f"({', '.join(different)} differ). Use another --out, or delete {Path(out) / MARKER} and audio/ first."
        )


@contextlib.contextmanager
def locked(out):
    """One process per folder; the lock vanishes with the process, also when it is killed."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "a+b") as file:
        try:
            if os.name == "nt":
                import msvcrt

                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PrepError(f"Another data_prep is working in {out}. Wait for it, or use another --out.") from error
        yield


def build(out, jobs, work, recipe, *, workers=1, progress=None):
    """Run `work(job, folder)` for every job and finish `out`; returns the path of the manifest.

    Args:
        out: folder to fill.
        jobs: list of objects with a unique `name`; they must pickle.
        work: function at module level; writes below `folder`, returns manifest rows (dicts) with paths relative to it.
        recipe: dict that, with the jobs, fixes every byte of the result; stored in the marker.
        workers: processes; 1 works in this process.
        progress: callable (what, done, total), or None.

    Raises:
        PrepError: `out` holds something else, or a job failed (its name is in the message).
    """
    out = Path(out)
    marker = prepared(out)
    if marker is not None:
        check_same(marker, recipe, out)
        shutil.rmtree(out / ".building", ignore_errors=True)
        return out / "manifest.csv"
    names = [job.name for job in jobs]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})[:3]
        raise PrepError(f"{out}: the names {', '.join(twice)} occur more than once; every recording needs its own name.")
    if not jobs:
        raise PrepError(f"{out}: there is nothing to make. Check --parts, --limit and --source.")

    scratch = out / ".building"
    identity = {**recipe, "jobs": digest([repr(job) for job in jobs])}
    if scratch.exists() and _read_json(scratch / "recipe.json") != json.loads(json.dumps(identity, default=str)):
        shutil.rmtree(scratch)
    if (out / "audio").exists() and not scratch.exists():
        raise PrepError(f"{out / 'audio'} exists, but was not finished by this program. Move it away or use another --out.")
    (scratch / "rows").mkdir(parents=True, exist_ok=True)
    write_text(scratch / "recipe.json", json.dumps(identity, indent=1, default=str) + "\n")
    if not (out / "audio").exists():
        (scratch / "audio").mkdir(exist_ok=True)
        _run(jobs, work, scratch, workers, progress)
        _sweep(scratch)
        os.replace(scratch / "audio", out / "audio")
    rows = [row for job in jobs for row in _read_json(_row_file(scratch, job.name))]
    manifest.write(out / "manifest.csv", rows, _columns(rows))
    marker = {
        "recipe": recipe,
        "digest": digest(recipe),
        "rows": len(rows),
        "manifest_sha256": digests(out / "manifest.csv", "sha256")[0],
        "version": __version__,
    }
    write_text(out / MARKER, json.dumps(marker, indent=1, sort_keys=True, default=str) + "\n")
    shutil.rmtree(scratch, ignore_errors=True)
    return out / "manifest.csv"


def verify(out, progress=None):
    """Hash every file of a finished folder again; returns a list of sentences, empty when all is well."""
    out = Path(out)
    marker = prepared(out)
    if marker is None:
        return [f"{out}: there is no {MARKER}; the folder was never finished. Run the command without --verify."]
    problems, listed = [], set()
    rows = manifest.read(out / "manifest.csv")
    for i, row in enumerate(rows):
        for column in ("noisy", "clean"):
            if not row.get(column) or row[column] in listed:
                continue
            listed.add(row[column])
            path = out / row[column]
            if not path.is_file():
                problems.append(f"{row[column]}: listed in the manifest, but the file is missing.")
            elif digests(path, "sha256")[0] != row[f"sha256_{column}"]:
                problems.append(f"{row[column]}: the file differs from the SHA-256 in the manifest.")
        if progress:
            progress("verify", i + 1, len(rows))
    for path in sorted((out / "audio").rglob("*")):
        if path.is_file() and path.relative_to(out).as_posix() not in listed:
            problems.append(f"{path.relative_to(out).as_posix()}: not in the manifest.")
    return problems


def write_wav(path, wav, sample_rate, bits):
    """Write mono PCM (16 or 24 bits), by rename; returns (SHA-256 of the file, number of clipped samples).

    24 bits rather than 32-bit float for mixtures: the rounding noise lies at -144 dBFS, and the same samples always give
    the same bytes (libsndfile stamps the time of day into the PEAK chunk of a float WAV).
    """
    import numpy as np
    import soundfile

    full = 2 ** (bits - 1)
    scaled = np.rint(np.asarray(wav, dtype=np.float64) * full)
    clipped = int(np.count_nonzero((scaled > full - 1) | (scaled < -full)))
    scaled = np.clip(scaled, -full, full - 1)
    pcm = scaled.astype(np.int16) if bits == 16 else scaled.astype(np.int32) << 8
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, sample_rate, format="WAV", subtype=f"PCM_{bits}")
    data = buffer.getvalue()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return hashlib.sha256(data).hexdigest(), clipped


def _read_json(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _row_file(scratch, name):
    return scratch / "rows" / f"{name}.json"


def _columns(rows):
    """The standard columns, then ours; a side that no row has (speech alone, noise alone) has no column."""
    absent = [side for side in ("noisy", "clean") if not any(row.get(side) for row in rows)]
    names = (*data.MANIFEST_COLUMNS, *MORE_COLUMNS)
    return [name for name in names if name.removeprefix("sha256_") not in absent]


def _run(jobs, work, scratch, workers, progress):
    """Do every job that has no rows yet, or whose files are not what its rows say (after a power cut)."""
    todo = [job for job in jobs if not _is_done(scratch, job.name)]
    done = len(jobs) - len(todo)
    _sweep(scratch)
    if workers <= 1:
        for job in todo:
            _one(work, job, scratch)
            done += 1
            if progress:
                progress("audio", done, len(jobs))
        return
    context = multiprocessing.get_context("spawn")  # fork is unsafe once TensorFlow or BLAS threads run
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_die_with_parent) as pool:
        futures = [pool.submit(_one, work, job, scratch) for job in todo]
        try:
            for future in as_completed(futures):
                future.result()
                done += 1
                if progress:
                    progress("audio", done, len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _is_done(scratch, name):
    """True when the job's rows are there and all its files have the recorded SHA-256."""
    try:
        rows = _read_json(_row_file(scratch, name))
    except ValueError:  # an empty or half-written file
        return False
    return rows is not None and all(
        (scratch / row[side]).is_file() and digests(scratch / row[side], "sha256")[0] == row[f"sha256_{side}"]
        for row in rows for side in ("noisy", "clean") if row.get(side)
    )  # fmt: skip


def _sweep(scratch):
    """Remove temporary files that a killed process left."""
    for leftover in (scratch / "audio").rglob(".*"):
        if leftover.is_file():
            leftover.unlink()


def _one(work, job, scratch):
    """One job, in whatever process: audio first, rows last."""
    try:
        rows = work(job, scratch / "audio")
    except Exception as error:
        raise PrepError(f"{job.name}: {error}") from error
    for row in rows:
        row["version"] = __version__
        for column in ("noisy", "clean"):
            if row.get(column):
                row[column] = f"audio/{row[column]}"
    write_text(_row_file(scratch, job.name), json.dumps(rows) + "\n", sync=False)


def _die_with_parent():
    """A worker whose parent was killed would wait for work for ever; this thread ends it instead."""
    parent = multiprocessing.parent_process()

    def watch():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
