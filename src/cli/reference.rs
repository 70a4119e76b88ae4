//! The reference of all commands as a page of the documentation, made from the definition of the command line.

use clap::{Arg, Command};

/// The page.
pub(super) fn page(program: &Command) -> String {
    let mut page = String::from(
        "# Reference of commands\n\n\
         Made by `rfs manual --reference` from the definition of the command line; a test holds the two together. The same is told by\n\
         `rfs COMMAND --help` and by the manual pages (`man rfs-build`).\n",
    );
    for command in shown(program) {
        section(&mut page, &format!("rfs {}", command.get_name()), command);
    }
    page
}

fn shown(of: &Command) -> impl Iterator<Item = &Command> {
    let shown = of.get_subcommands().filter(|one| !one.is_hide_set());
    shown.filter(|one| one.get_name() != "help")
}

fn section(page: &mut String, name: &str, command: &Command) {
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let mut usage = format!("{name} [OPTIONS]");
    for arg in command.get_positionals() {
        usage.push(' ');
        usage.push_str(&value(arg));
    }
    page.push_str(&format!("\n## `{name}`\n{about}\n\n`{usage}`\n"));
    let args: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .collect();
    if !args.is_empty() {
        page.push_str("\n| option | what it does |\n|---|---|\n");
    }
    for arg in args {
        let mut text = help(arg);
        let values = arg.get_possible_values();
        let named: Vec<_> = values.iter().filter(|value| !value.is_hide_set()).collect();
        if !named.is_empty() && arg.get_action().takes_values() {
            let one = |value: &&clap::builder::PossibleValue| match value.get_help() {
                Some(help) => format!("`{}` ({help})", value.get_name()),
                None => format!("`{}`", value.get_name()),
            };
            let named: Vec<_> = named.iter().map(one).collect();
            text.push_str(&format!(": {}", named.join(", ")));
        }
        if let [default] = arg.get_default_values() {
            if arg.get_action().takes_values() {
                text.push_str(&format!(" [default: {}]", default.to_string_lossy()));
            }
        }
        let text = text.replace('\n', " ").replace('|', "\\|");
        page.push_str(&format!(
            "| `{}` | {text} |\n",
            names(arg).replace('|', "\\|")
        ));
    }
    for inner in shown(command) {
        section(page, &format!("{name} {}", inner.get_name()), inner);
    }
}

fn help(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    help.map(ToString::to_string).unwrap_or_default()
}

/// `-j, --jobs N`, or `FILE`.
fn names(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    match (names.is_empty(), arg.get_action().takes_values()) {
        (true, _) => value(arg),
        (false, true) => format!("{} {}", names.join(", "), value(arg)),
        (false, false) => names.join(", "),
    }
}

fn value(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    match names.first() {
        Some(name) => name.to_string(),
        None => arg.get_id().to_string().to_uppercase(),
    }
}
