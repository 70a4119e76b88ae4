"""What a directory holds, so that two of them can be compared: names, kinds, modes, contents, links."""

import fnmatch
import hashlib
import os
import stat


def read(root):
    """Maps each path below `root` but `.rfs` to what a user could see of it, times left out."""
    root, found, inodes = str(root), {}, {}
    for here, dirs, files in os.walk(root):
        if here == root and ".rfs" in dirs:
            dirs.remove(".rfs")
        for name in dirs + files:
            path = os.path.join(here, name)
            found[os.path.relpath(path, root)] = _entry(path, inodes)
    names = {}
    for path in sorted(found):
        kind, mode, content, inode = found[path]
        if inode is not None:
            inode = names.setdefault(inode, path)
        found[path] = (kind, mode, content, inode)
    return found


def _entry(path, inodes):
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    kind = stat.filemode(status.st_mode)[0]
    inode = None
    if status.st_nlink > 1 and kind != "d":
        inode = (status.st_dev, status.st_ino)
    if kind == "l":
        return kind, mode, os.readlink(path), inode
    if kind == "-":
        with open(path, "rb") as file:
            return kind, mode, hashlib.blake2b(file.read()).hexdigest(), inode
    return kind, mode, "", inode


def differences(one, other):
    """Paths that are not the same in both."""
    return sorted(p for p in one.keys() | other.keys() if one.get(p) != other.get(p))


def unexplained(paths, patterns):
    """Those of `paths` that no pattern covers."""
    return [p for p in paths if not any(fnmatch.fnmatch(p, pattern) for pattern in patterns)]
