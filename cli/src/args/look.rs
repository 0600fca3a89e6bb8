//! How the help looks: the same for `-h` and `--help`, in columns, with examples.

use clap::Command;
use clap::builder::styling::{AnsiColor, Style, Styles};

use super::examples::{ENVIRONMENT, Example, examples};
use crate::exit::Exit;

/// A command and those below it as people see them. `path` is its name as in `key new`, without the program's.
pub(super) fn look(command: Command, path: &str) -> Command {
    // A long help would be a second one, and puts each flag and each text about it on lines of their own.
    let details = command.get_long_about().and_then(|text| Some(text.to_string().split_once("\n\n")?.1.to_owned()));
    let mut epilogue = vec![section("Examples", examples(path).iter().map(|Example { line, does }| (*line, *does)))];
    if path.is_empty() {
        let codes: Vec<_> = Exit::ALL.iter().map(|exit| format!("{} {}", *exit as u8, exit.meaning())).collect();
        epilogue.push(section("Exit codes", [(codes.join(" · ").as_str(), "")]));
        epilogue.push(section("Environment", ENVIRONMENT.iter().copied()));
    }
    let command = command
        .styles(STYLES)
        .help_template(TEMPLATE)
        .long_about(None)
        .after_help(epilogue.join("\n\n"))
        .mut_args(|arg| arg.hide_env_values(true))
        .mut_subcommands(|sub| {
            let path = format!("{path} {}", sub.get_name());
            look(sub, path.trim())
        });
    match details {
        Some(details) => command.before_help(details),
        None => command,
    }
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// What is called `before-help` are the details, which come after what it does in short.
const TEMPLATE: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// A heading, and below it what stands at the left and what is said about it, in two columns.
fn section<'a>(heading: &str, rows: impl IntoIterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let (head, dim) = (STYLES.get_header(), Style::new().dimmed());
    let width = rows.clone().into_iter().filter(|(_, right)| !right.is_empty()).map(|(left, _)| left.chars().count());
    let width = width.max().unwrap_or(0);
    let mut text = format!("{head}{heading}:{head:#}");
    for (left, right) in rows {
        text += &match right {
            "" => format!("\n  {left}"),
            _ => format!("\n  {left:width$}  {dim}{right}{dim:#}"),
        };
    }
    text
}
