//! What is known of particular tools and variables. Every entry has its reason; config can add to them.

use serde::{Deserialize, Serialize};

/// What a program does with the time stamps that stat(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Times {
    /// It has no use for them.
    Ignore,
    /// It compares them with each other.
    Order,
    /// It may use their values.
    Exact,
}

/// The tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Programs that cost less to run than to look up: their accesses belong to the step around them.
    pub fold: Vec<String>,
    /// Those of `fold` that look at so many names that the preload library pays: of the others each call is
    /// watched, for the library would cost more to load.
    pub noted: Vec<String>,
    /// Programs that only serve another one, with temporary names in their arguments: `cc1` under `gcc`.
    pub parts: Vec<String>,
    /// The same, as long as a program of `drivers` started them: `as` under `gcc`.
    pub driven: Vec<String>,
    /// Programs that start those of `driven`.
    pub drivers: Vec<String>,
    /// Programs that look at an old output only to remove it before they write a new one.
    pub replaces: Vec<String>,
    /// Programs that have no use for time stamps, unless an argument is in `times-args`.
    pub times_ignore: Vec<String>,
    /// Programs that compare time stamps with each other.
    pub times_order: Vec<String>,
    /// Programs that pass on the time stamps of directories. Others look at them only to see whether
    /// what they remember of the names inside is still right, and then read the names.
    pub times_dirs: Vec<String>,
    /// Programs that pass on the time stamps of files that they have opened. That is asked by descriptor
    /// (fstat(2)), which the C library does with every file for its size and nobody can watch.
    pub times_files: Vec<String>,
    /// Options that make a program of the other lists use the values of time stamps: `program:option`.
    pub times_args: Vec<String>,
    /// Options that make a program of `times-ignore` compare them with each other, and no more.
    pub times_order_args: Vec<String>,
    /// Environment variables that are passed on but do not decide whether a step is served.
    /// A trailing `*` stands for anything.
    pub env_ignore: Vec<String>,
    /// Programs whose `-j` and `-l` options do not decide whether a step is served.
    pub jobs_ignore: Vec<String>,
    /// Programs that open the terminal only to ask whether there is one and how wide it is.
    pub asks_terminal: Vec<String>,
    /// Programs that read the `stat` files of all processes in `/proc` only to find children of their own.
    pub seeks_children: Vec<String>,
    /// Programs that exist to tell the time or give random numbers.
    pub chance: Vec<String>,
    /// Programs that compute with one thread: they are pinned where pinning is asked for.
    pub pin: Vec<String>,
    /// Programs that are to run near a place where pinning is asked for, as `program=place`: `nvcc=gpu:0`.
    pub near: Vec<String>,
    /// Programs that are never served nor recorded, on their own or as part of another; with an option
    /// where it is one that makes them so: `program:option`.
    pub never: Vec<String>,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            fold: words(
                "[ awk basename bc cat chmod cmp comm cp cut date dd diff dirname echo egrep env expr \
                 false fgrep find fold gawk getconf grep head hostname id install join ln ls mawk mkdir \
                 mktemp mv nice nl od paste printenv printf pwd readlink realpath rm rmdir sed seq \
                 sha256sum sleep sort stat tail tee test touch tr true tty uname uniq wc which whoami xargs \
                 arch nproc md5sum sha1sum cksum tac tsort link unlink sync timeout",
            ),
            noted: words("cp dd diff find install ls stat timeout which xargs"),
            parts: words("cc1 cc1plus cc1obj lto1 collect2 lto-wrapper f951 gnat1 d21 go1"),
            driven: words("as ld ld.bfd ld.gold ld.lld collect2 gcc g++ cc c++ gfortran f95 f77"),
            drivers: words(
                "gcc g++ cc c++ clang clang++ gfortran f95 f77 gnat collect2 lto-wrapper",
            ),
            replaces: words(
                "as ld ld.bfd ld.gold ld.lld collect2 gcc g++ cc c++ clang clang++ cc1 cc1plus gfortran \
                 f95 f77 f951",
            ),
            times_ignore: words(
                "cc gcc c++ g++ cpp cc1 cc1plus gfortran f95 f77 f951 as ld ld.bfd ld.gold ld.lld \
                 collect2 lto1 lto-wrapper clang \
                 clang++ ar gcc-ar ranlib nm strip objcopy rustc tcc cat rm mv ln mkdir rmdir chmod echo grep \
                 egrep fgrep sed awk mawk gawk sort tr cut head tail wc cmp diff basename dirname expr true \
                 false env cp install touch mktemp uname m4 perl bison flex yacc lex pkg-config readlink \
                 realpath pwd which xargs file objdump readelf size strings c++filt addr2line ldd patchelf dwz \
                 ls find du gettext msgfmt xgettext tee id hostname getconf",
            ),
            times_order: words("make gmake ninja samu cmake sh dash bash busybox ksh zsh test ["),
            times_dirs: words("tar bsdtar cpio zip 7z rsync cp ls stat find du touch install pax"),
            times_files: words(
                "gzip pigz xz lzma bzip2 zstd lz4 lzip zip 7z tar bsdtar cpio pax rsync cp install touch",
            ),
            times_args: words(
                "cp:-p cp:-a cp:--preserve cp:--archive install:-p install:-C \
                 install:--preserve-timestamps install:--compare cmake:tar touch:-r touch:--reference \
                 ar:U ls:-l ls:-g ls:-o ls:-n ls:-c ls:-u ls:--full-time ls:--time* ls:--format* \
                 find:-newera* find:-newerB* find:-newerc* find:-newerm* find:-anewer find:-cnewer find:-mtime find:-mmin find:-ctime find:-cmin \
                 find:-atime find:-amin find:-ls find:-fls find:-printf find:-fprintf find:-used find:-daystart du:--time*",
            ),
            times_order_args: words(
                "ls:-t ls:--sort* find:-newer cp:-u cp:--update mv:-u mv:--update",
            ),
            env_ignore: words(
                "COLUMNS LINES WINDOWID SHLVL _ OLDPWD SSH_* XDG_SESSION_* \
                 XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS DESKTOP_SESSION DISPLAY WAYLAND_DISPLAY XAUTHORITY \
                 TMUX TMUX_PANE STY GPG_TTY GPG_AGENT_INFO INVOCATION_ID JOURNAL_STREAM SYSTEMD_EXEC_PID \
                 TERM_SESSION_ID TERM_PROGRAM TERM_PROGRAM_VERSION WT_SESSION VTE_VERSION COLORFGBG LS_COLORS RFS_CACHE_DIR RFS_LOG",
            ),
            jobs_ignore: words("make gmake ninja samu"),
            asks_terminal: words("bash sh rustc cargo git less clang clang++ ninja meson cmake"),
            // Before it kills a child with all that it has started, also if it has ended already.
            seeks_children: words("cmake ctest cpack"),
            chance: words("date uuidgen shuf"),
            pin: words(
                "cc gcc c++ g++ cpp clang clang++ gfortran f951 gnat tcc f95 f77 as ar ranlib strip \
                 objcopy yacc bison flex m4",
            ),
            // What fakeroot keeps of owners is by inode number, which served files do not have.
            near: Vec::new(),
            never: words(
                "su sudo doas faked-sysv:--save-file faked-sysv:--load faked-tcp:--save-file faked-tcp:--load",
            ),
        }
    }
}

impl Policy {
    /// What the program called `name` with these arguments does with time stamps.
    #[must_use]
    pub fn times(&self, name: &str, argv: &[Vec<u8>]) -> Times {
        let given = |options: &[String]| given(options, name, argv);
        let is = |list: &[String], name: &str| list.iter().any(|known| known == name);
        let order = is(&self.times_order, name);
        match () {
            () if !order && !is(&self.times_ignore, plain(name)) => Times::Exact,
            () if given(&self.times_args) => Times::Exact,
            () if order || given(&self.times_order_args) => Times::Order,
            () => Times::Ignore,
        }
    }

    /// Whether a program with these arguments is none that a record can tell of.
    #[must_use]
    pub fn never(&self, name: &str, argv: &[Vec<u8>]) -> bool {
        self.never.iter().any(|known| known == name) || given(&self.never, name, argv)
    }

    /// Whether the variable decides whether a step is served.
    #[must_use]
    pub fn env_counts(&self, variable: &[u8]) -> bool {
        !self
            .env_ignore
            .iter()
            .any(|known| match known.strip_suffix('*') {
                Some(prefix) => variable.starts_with(prefix.as_bytes()),
                None => variable == known.as_bytes(),
            })
    }
}

/// The tool's name without a target triplet or version: `x86_64-linux-gnu-gcc-12` is `gcc`.
#[must_use]
pub fn plain(name: &str) -> &str {
    let name = match name.rsplit_once('-') {
        Some((front, version)) if version.bytes().all(|b| b.is_ascii_digit() || b == b'.') => front,
        _ => name,
    };
    if name.matches('-').count() >= 3 {
        name.rsplit('-').next().unwrap_or(name)
    } else {
        name
    }
}

/// Whether one of the options of `entries`, each `program:option`, is among the program's arguments.
fn given(entries: &[String], name: &str, argv: &[Vec<u8>]) -> bool {
    let options = entries.iter().filter_map(|entry| entry.split_once(':'));
    options
        .filter(|(tool, _)| *tool == name)
        .any(|(_, option)| {
            let mut args = argv.iter().skip(1);
            args.any(|arg| takes(arg, option.as_bytes()))
        })
}

/// Whether `arg` gives `option`: long ones with or without a value, short ones also in a bundle.
fn takes(arg: &[u8], option: &[u8]) -> bool {
    match option {
        [prefix @ .., b'*'] => arg.starts_with(prefix),
        [b'-', b'-', ..] => arg.starts_with(option),
        [b'-', letter] => arg.len() > 1 && arg[0] == b'-' && arg[1] != b'-' && arg.contains(letter),
        [letter] => !arg.contains(&b'.') && !arg.contains(&b'/') && arg.contains(letter),
        _ => arg == option,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(text: &str) -> Vec<Vec<u8>> {
        text.split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect()
    }

    #[test]
    fn names_lose_triplet_and_version() {
        assert_eq!(plain("x86_64-linux-gnu-gcc-12"), "gcc");
        assert_eq!(plain("gcc-12"), "gcc");
        assert_eq!(plain("pkg-config"), "pkg-config");
        assert_eq!(plain("lto-wrapper"), "lto-wrapper");
    }

    #[test]
    fn options_can_make_a_tool_use_time_stamps() {
        let policy = Policy::default();
        assert_eq!(policy.times("cp", &argv("cp a b")), Times::Ignore);
        assert_eq!(policy.times("cp", &argv("cp -rp a b")), Times::Exact);
        assert_eq!(
            policy.times("cp", &argv("cp --preserve=timestamps a b")),
            Times::Exact
        );
        assert_eq!(policy.times("ls", &argv("ls -a")), Times::Ignore);
        assert_eq!(policy.times("ls", &argv("ls -Lt")), Times::Order);
        assert_eq!(policy.times("ls", &argv("ls -lt")), Times::Exact);
        assert_eq!(policy.times("cp", &argv("cp -u a b")), Times::Order);
        assert_eq!(policy.times("find", &argv("find . -newer x")), Times::Order);
        assert_eq!(
            policy.times("find", &argv("find . -newermt x")),
            Times::Exact
        );
        assert_eq!(policy.times("find", &argv("find . -name x")), Times::Ignore);
        assert_eq!(policy.times("make", &argv("make")), Times::Order);
        let cmake = |words| policy.times("cmake", &argv(words));
        assert_eq!(cmake("cmake -S . -B b"), Times::Order);
        assert_eq!(cmake("cmake -E tar cf x y"), Times::Exact);
        assert_eq!(policy.times("python3", &argv("python3 x")), Times::Exact);
        assert_eq!(
            policy.times("x86_64-linux-gnu-gcc-12", &argv("gcc")),
            Times::Ignore
        );
    }

    #[test]
    fn ignored_variables() {
        let policy = Policy::default();
        assert!(!policy.env_counts(b"SSH_AGENT_PID") && !policy.env_counts(b"COLUMNS"));
        assert!(policy.env_counts(b"LANG") && policy.env_counts(b"CFLAGS"));
    }
}
