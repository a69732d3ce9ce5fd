"""The sweeps of a results folder as they are followed: how each stands, and its page.

A page is made from a snapshot: the tables are built anew in a temporary folder, from records that
are only read. So a page needs no driver, and nothing is written into the results folder. It is
made by the command `report` in a process of its own, only while somebody looks and something has
been published, with a rest after each.
"""

import contextlib
import hashlib
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import StoreError, SweeperError
from sweeper.store import files
from sweeper.store.layout import Store
from sweeper.store.measurements import measurement_stamps
from sweeper.store.results import record_stamps
from sweeper.store.submission import read_plan
from sweeper.watching.report_process import ReportProcesses
from sweeper.watching.view import View, Watch

LOOK_TIME_S = 1.0  # longest wait for a look; a driver on another machine takes longer to judge
FIRST_LOOK_TIME_S = 10.0
REST_PER_TIME = 0.5  # a page that took a second to make is not made again for half a second
MOST_REST_S = 2.0
LINKED = ("published", "attempts", "attempts.jsonl", "sampling")
COPIED = ("plan.json", "manifest.json", "sweep.yaml")


def sweeps_in(results: Path) -> dict[str, Path]:
    """The folders of the sweeps below `results`, or `results` itself where it is one, by name.

    Links are left out: what they lead to lies elsewhere. Raises StoreError for no folder.
    """
    if (results / "plan.json").is_file():
        return {results.resolve().name: results}
    try:
        with os.scandir(results) as entries:
            names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise StoreError(f"{results}: {reason}; name the folder that --results names") from error
    return {
        name: results / name
        for name in sorted(names)
        if name.isprintable() and name[0] != "." and (results / name / "plan.json").is_file()
    }


@dataclass(frozen=True)
class Page:
    """A report as it was made."""

    body: bytes
    tag: str
    """Digest of the body."""


class Followed:
    """One sweep. Its methods may be called by several threads."""

    def __init__(
        self, folder: Path, scratch: Path, looks: ThreadPoolExecutor, reports: ReportProcesses
    ) -> None:
        self.view: View | None = None
        """As last looked at."""
        self.trouble = ""
        """Why it cannot be looked at."""
        self.page: Page | None = None
        self.no_page = ""
        """Why there is no page, or no newer one."""
        self.is_making = False
        self._store = Store(folder.resolve())
        self._watch = Watch(self._store)
        self._looks, self._look = looks, Future[None]()
        self._look.set_result(None)
        self._lock = threading.Lock()
        self._scratch, self._reports = scratch, reports
        self._made_of = ""
        self._maker: threading.Thread | None = None
        self._next_page_s = 0.0

    @property
    def is_read(self) -> bool:
        """Whether it has been looked at."""
        return self.view is not None or bool(self.trouble)

    def begin_look(self) -> Future[None]:
        """Begin to bring the view up to date, unless that goes on already."""
        with self._lock:
            if self._look.done():
                self._look = self._looks.submit(self._look_now)
            return self._look

    def follow(self) -> None:
        """Bring the view up to date, and begin to make a newer page where there is a reason to."""
        look_at([self])
        if (stamp := _page_stamp(self._store)) == self._made_of:
            return
        with self._lock:
            if self.is_making or time.monotonic() < self._next_page_s:
                return
            self.is_making = True
            self._maker = threading.Thread(target=self._make, args=(stamp,), daemon=True)
            self._maker.start()

    def close(self) -> None:
        """Make no page any more; what makes one was ended before."""
        with self._lock:
            self._next_page_s = math.inf
            maker = self._maker
        if maker is not None:
            maker.join()

    def _look_now(self) -> None:
        try:
            self.view, self.trouble = self._watch.look(), ""
        except (SweeperError, OSError) as error:
            self.trouble = str(error)

    def _make(self, stamp: str) -> None:
        start_s = time.monotonic()
        try:
            self.page, self.no_page = self._made(), ""
        except (SweeperError, OSError) as error:
            self.no_page = str(error)
        finally:
            end_s = time.monotonic()
            if self._next_page_s < math.inf:
                self._next_page_s = end_s + min(MOST_REST_S, REST_PER_TIME * (end_s - start_s))
            self._made_of, self.is_making = stamp, False
            self._reports.prepare()  # for the next one

    def _made(self) -> Page:
        """The report on what is published now; raises SweeperError where there is none to make."""
        # Late: pyarrow takes a while to load.
        from sweeper.store.tables import refresh_tables

        snapshot = self._scratch / self._store.folder.name
        _prepare(Path(str(self._store.folder)), snapshot)
        refresh_tables(Store(snapshot), read_plan(self._store))
        out = self._scratch / "report.html"
        try:
            self._reports.run([str(snapshot), "-o", str(out)])
        except StoreError as error:
            raise StoreError(str(error).replace(str(snapshot), snapshot.name)) from error
        body = out.read_bytes()
        return Page(body, hashlib.sha256(body).hexdigest()[:32])


def look_at(sweeps: Collection[Followed]) -> None:
    """Bring views up to date, as far as that takes no longer than a moment."""
    looks = [each.begin_look() for each in sweeps]
    are_read = all(each.is_read for each in sweeps)
    wait(looks, LOOK_TIME_S if are_read else FIRST_LOOK_TIME_S)


def _prepare(folder: Path, snapshot: Path) -> None:
    """A folder with links to what a sweep has published, and copies of what says how to read it."""
    snapshot.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        if not (snapshot / name).is_symlink():
            (snapshot / name).symlink_to(folder / name)
    for name in COPIED:
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(folder / name, snapshot / name)


def _page_stamp(store: Store) -> str:
    """What changes when a page does: records, plan and measurements of samples."""
    plan = files.stamp(store.plan)
    parts = (record_stamps(store), plan, measurement_stamps(store))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Folder:
    """A results folder whose sweeps are followed. Close it in the end."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._scratch = tempfile.TemporaryDirectory(prefix="sweeper-serve-")
        self._looks = ThreadPoolExecutor(4)
        self._reports = ReportProcesses()
        self._followed: dict[str, Followed] = {}
        self._lock = threading.Lock()

    def sweeps(self) -> dict[str, Followed]:
        """Those that are there now, by name."""
        self._reports.prepare()  # somebody looks, and will soon look at a page
        found = sweeps_in(self.results)
        with self._lock:
            for name, path in found.items():
                if name not in self._followed:
                    scratch = Path(self._scratch.name) / str(len(self._followed))
                    self._followed[name] = Followed(path, scratch, self._looks, self._reports)
            return {name: self._followed[name] for name in found}

    def close(self) -> None:
        """Remove what was made."""
        self._looks.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            followed = list(self._followed.values())
        self._reports.close()
        for each in followed:
            each.close()
        self._scratch.cleanup()
