"""Fetches the lists that are due. A list replaces its file if it is valid; else the old file stays."""

import logging
from collections.abc import Callable, Collection
from pathlib import Path

from trafficmond import figures, files
from trafficmond.config.filtering import PrefixList
from trafficmond.config.settings import Settings
from trafficmond.dataclass import replace
from trafficmond.errors import TrafficmonError
from trafficmond.feeds.http import Answer, FetchError, Validators, get
from trafficmond.feeds.shape import NoList, shape
from trafficmond.feeds.state import Fetched, digest, read, write

log = logging.getLogger(__name__)

Get = Callable[[str, Collection[str], Validators], Answer]
_EARLY_S = 60.0  # tolerance for a timer that fires early


def fetch(settings: Settings, now: Callable[[], float], *, all_of_them: bool = False, ask: Get = get) -> int:
    """Fetches the lists that are due; returns how many failed. Raises TrafficmonError if one cannot be stored."""
    feeds, folder = [each for each in settings.lists if each.url], settings.feeds_dir
    states = read(folder)
    failed = 0
    try:
        kept = {each.label: states[each.label] for each in feeds if each.label in states}
        if gone := states.keys() - kept.keys():
            for label in gone:
                PrefixList(url="-", label=label).file(folder).unlink(missing_ok=True)
            write(folder, kept)
        # The longest untried first: if many are slow and the unit ends this process, the next one continues there.
        for each in sorted(feeds, key=lambda feed: kept.get(feed.label, Fetched()).tried):
            known = kept.get(each.label, Fetched())
            if all_of_them or _due(each, known, folder, now()):
                kept[each.label] = _one(each, known, folder, now, ask)
                failed += bool(kept[each.label].error)
                write(folder, kept)
    except OSError as error:
        what = f"cannot keep what is fetched in {folder}: {error.strerror or error}"
        raise TrafficmonError(
            what, hint="check that it exists and is writable, and that the disk is not full"
        ) from error
    return failed


def _due(feed: PrefixList, known: Fetched, folder: Path, now: float) -> bool:
    if known.source != digest(feed.url) or not feed.file(folder).exists() or now < known.tried:
        return True
    return now - known.tried >= feed.refresh - _EARLY_S or bool(known.error)


def _one(feed: PrefixList, known: Fetched, folder: Path, now: Callable[[], float], ask: Get) -> Fetched:
    path = feed.file(folder)
    if known.source != digest(feed.url):
        known = Fetched(digest(feed.url))
    validators = Validators(known.etag, known.modified) if path.exists() else Validators()
    try:
        answer = ask(feed.url, feed.url_allow, validators)
        if answer.body is None:
            log.info("%s: unchanged", feed.label)
            return replace(known, checked=now(), tried=now(), failing_since=0.0, error="")
        found = shape(answer.body, "empty" in feed.url_allow)
        changed = not files.is_file(path) or files.read(path) != found.data
        if changed:
            files.replace(path, found.data, mode=0o644, durable=True)
    except (FetchError, NoList, OSError) as error:
        why = f"it cannot be stored: {error.strerror}" if isinstance(error, OSError) else str(error)
        log.warning("%s: %s; the list that was fetched last stays in use", feed.label, why)
        return replace(known, tried=now(), failing_since=known.failing_since or now(), error=why)
    wrong = f", {figures.many(found.wrong, 'line')} without a prefix" if found.wrong else ""
    how = f" (before: {known.prefixes:,})" if changed and known.changed else "" if changed else ", unchanged"
    log.info("%s: %s%s%s", feed.label, figures.many(found.prefixes, "prefix"), wrong, how)
    return Fetched(
        known.source,
        answer.validators.etag,
        answer.validators.modified,
        checked=now(),
        changed=now() if changed else known.changed,
        tried=now(),
        prefixes=found.prefixes,
        wrong=found.wrong,
    )
