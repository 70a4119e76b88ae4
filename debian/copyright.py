#!/usr/bin/env python3
"""Writes debian/copyright: python3 debian/copyright.py

Names every crate of Cargo.lock with its licence and its authors, as its own Cargo.toml tells them, and
each licence's text, from one of the crates. Run it when Cargo.lock has changed; tests/packaging.rs tells.
"""

import json
import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
# Debian's names for what SPDX names otherwise.
NAMES = {"MIT": "Expat", "LGPL-2.1-or-later": "LGPL-2.1+"}
# A text that Debian has on every machine.
COMMON = {"Apache-2.0": "Apache-2.0", "CC0-1.0": "CC0-1.0", "LGPL-2.1-or-later": "LGPL-2.1"}
# Where else the text of a licence is: a crate, a file of it, and how the text begins.
TEXTS = {
    "Unicode-3.0": (r"LICENSE-UNICODE|LICENSE", "UNICODE LICENSE V3"),
    "BSL-1.0": (r"LICENSE.*", "Boost Software License"),
    "BSD-1-Clause": (r"LICENSE.*BSD.*", "Redistribution and use"),
    "BSD-2-Clause": (r"LICENSE.*", "Redistribution and use"),
    "BSD-3-Clause": (r"LICENSE.*", "Neither the name"),
    "Unlicense": (r"UNLICENSE|LICENSE.*", "free and unencumbered"),
    "MIT-0": (r"LICENSE.*", "Permission is hereby granted"),
    "Apache-2.0 WITH LLVM-exception": (r"LICENSE.*", "LLVM Exceptions"),
}


def expression(text):
    """The expression as Debian writes it, and the licences in it."""
    text = re.sub(r"\s*/\s*", " OR ", text or "unknown")
    parts = re.split(r"\s+(OR|AND)\s+|([()])", text)
    parts = [part for part in parts if part]
    names = {p for p in parts if p not in ("OR", "AND", "(", ")")}
    words = []
    for part in parts:
        if part in ("OR", "AND"):
            words.append(part.lower())
        elif part not in "()":
            words.append(debian(part))
    return " ".join(words), names


def debian(name):
    if " WITH " in name:
        base, exception = name.split(" WITH ")
        return f"{base} with {exception.removesuffix('-exception')} exception"
    return NAMES.get(name, name)


def indent(text):
    lines = (line.strip("\r\n \t\f") for line in text.strip().splitlines())
    return "".join(f" {line}\n" if line else " .\n" for line in lines)


def text_of(name, packages):
    if name in COMMON:
        common = COMMON[name]
        return f" On Debian systems the text is in /usr/share/common-licenses/{common}.\n"
    if name == "MIT":
        mit = (HERE.parent / "LICENSE-MIT").read_text()
        return indent(mit[mit.index("Permission is hereby") :])
    pattern, has = TEXTS[name]
    for package in packages:
        if name not in package["names"]:
            continue
        for file in sorted(pathlib.Path(package["manifest_path"]).parent.iterdir()):
            if re.fullmatch(pattern, file.name, re.I) and has in (text := file.read_text()):
                if name.startswith("Apache-2.0 "):
                    # The exception follows the licence, which Debian has.
                    return text_of("Apache-2.0", packages) + " .\n" + indent(text[text.index(has) :])
                return indent(text)
    raise SystemExit(f"no crate has the text of {name}: see TEXTS")


def main():
    told = subprocess.run(
        ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"],
        check=True, capture_output=True, cwd=HERE.parent,
    )
    packages = [p for p in json.loads(told.stdout)["packages"] if p["source"]]
    packages.sort(key=lambda p: p["name"])
    groups, names = {}, {"MIT", "Apache-2.0"}
    for package in packages:
        package["expression"], package["names"] = expression(package["license"])
        names |= package["names"]
        groups.setdefault(package["expression"], {}).setdefault(package["name"], []).extend(
            package["authors"] or [f"the authors of {package['name']}"]
        )
    out = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        "Upstream-Name: rfs\n"
        "Comment: Made by debian/copyright.py. What is below vendor/ is linked into the program, and is\n"
        " in the tarball that `debian/rules vendor` makes.\n",
        "Files: *\nCopyright: the rfs authors\nLicense: Expat or Apache-2.0\n",
    ]
    for licence, crates in sorted(groups.items()):
        files = "\n".join(f" vendor/{name}-*" for name in crates)
        authors = {author for found in crates.values() for author in found}
        holders = "\n".join(f" {author}" for author in sorted(authors))
        out.append(f"Files:\n{files}\nCopyright:\n{holders}\nLicense: {licence}\n")
    for name in sorted(names, key=debian):
        out.append(f"License: {debian(name)}\n{text_of(name, packages)}")
    (HERE / "copyright").write_text("\n".join(out))


main()
