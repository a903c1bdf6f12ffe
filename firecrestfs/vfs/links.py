"""Symlink texts between a cluster and the mount: a link never leads out of its system's tree."""

from __future__ import annotations

import posixpath


def shown_target(path: str, target: str) -> str:
    """Return the text that the mount shows for the symlink *path* whose remote text is *target*.

    Absolute targets become relative ones inside the mount; relative ones that would climb over
    the system's root stop there, as they do on the cluster.
    """
    directory = posixpath.dirname(path)
    if target.startswith("/"):
        return _relative(posixpath.normpath(target), directory)
    depth = len([part for part in directory.split("/") if part])
    # Any name on the way may be a link itself, so no name makes up for a step upwards.
    if target.split("/").count("..") > depth:
        return _relative(posixpath.normpath(posixpath.join(directory, target)), directory)
    return target


def remote_target(mountpoint: str, system: str, target: str) -> str:
    """Return the remote text for a link that a user made with the text *target*.

    An absolute path into this very system's tree of the mount becomes the remote path.
    """
    prefix = f"{mountpoint.rstrip('/')}/{system}"
    if mountpoint and (target == prefix or target.startswith(prefix + "/")):
        return target[len(prefix) :] or "/"
    return target


def _relative(target: str, directory: str) -> str:
    # normpath keeps two leading slashes; a target of one root is never another's.
    return posixpath.relpath("/" + target.lstrip("/"), directory)
