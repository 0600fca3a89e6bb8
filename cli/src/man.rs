//! `meshmq man`: a manual page for each command, out of the same words as its help.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::{Args, ENVIRONMENT, ManArgs, examples};
use crate::exit::Exit;
use crate::output::{Say, counted, print};

const SOURCE: &str = concat!("meshmq ", env!("CARGO_PKG_VERSION"));

pub(crate) fn run(args: ManArgs) -> anyhow::Result<Exit> {
    let meshmq = meshmq();
    match args.dir {
        Some(folder) => {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
            let pages = write(&meshmq, "", &folder)?;
            Say::new(false, 0).note(format_args!("wrote {} into {}", counted(pages, "page"), folder.display()));
            Ok(Exit::Ok)
        }
        None => {
            let mut command = &meshmq;
            for name in &args.command {
                command = command.find_subcommand(name).ok_or_else(|| unknown(command, name))?;
            }
            print(&page(command, &args.command.join(" "))?)
        }
    }
}

/// The whole command line, complete with what clap adds, but for the commands that show help.
fn meshmq() -> Command {
    let mut meshmq = Args::command_line().disable_help_subcommand(true);
    meshmq.build();
    meshmq
}

fn unknown(command: &Command, name: &str) -> anyhow::Error {
    let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
    let of = command.get_bin_name().unwrap_or_else(|| command.get_name());
    Exit::Usage.because(match names[..] {
        [] => format!("{of} has no command {name:?}: it has none"),
        _ => format!("{of} has no command {name:?}: there are {}", names.join(", ")),
    })
}

/// Writes the pages of a command and of all below it. Tells how many.
fn write(command: &Command, path: &str, folder: &Path) -> anyhow::Result<u64> {
    let mut pages = 1;
    let file = folder.join(man(command).get_filename());
    fs::write(&file, page(command, path)?).with_context(|| format!("cannot write {}", file.display()))?;
    for sub in command.get_subcommands() {
        pages += write(sub, format!("{path} {}", sub.get_name()).trim(), folder)?;
    }
    Ok(pages)
}

fn man(command: &Command) -> Man {
    // Where there are details, the name alone says what it does in short.
    let details = command.get_before_help().or_else(|| command.get_about()).cloned().unwrap_or_default();
    // No date: a page is the same whenever it is made. An empty one would be left out, and the next word take its place.
    Man::new(command.clone().long_about(details)).date(" ").source(SOURCE).manual("meshmq manual")
}

fn page(command: &Command, path: &str) -> io::Result<Vec<u8>> {
    let man = man(command);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut more = Roff::new();
    more.control("SH", ["EXAMPLES"]);
    for example in examples(path) {
        more.control("TP", []).text([bold(example.line)]).text([roman(example.does)]);
    }
    more.control("SH", ["EXIT STATUS"]);
    for exit in Exit::ALL {
        more.control("TP", []).text([bold((exit as u8).to_string())]).text([roman(exit.meaning())]);
    }
    more.control("SH", ["ENVIRONMENT"]);
    for (name, says) in ENVIRONMENT {
        more.control("TP", []).text([bold(*name)]).text([roman(*says)]);
    }
    if !path.is_empty() {
        more.control("SH", ["SEE ALSO"]).text([bold("meshmq"), roman("(1)")]);
    }
    more.to_writer(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_flag_has_its_place() {
        fn check(command: &Command, path: &str) {
            let page = String::from_utf8(page(command, path).unwrap()).unwrap();
            // A dash that is one, and no hyphen.
            let shown = |word: &str| word.replace('-', "\\-");
            let flags = command.get_arguments().filter_map(|arg| Some(shown(&format!("--{}", arg.get_long()?))));
            let below =
                command.get_subcommands().map(|sub| shown(&format!("{}-{}", man_name(command), sub.get_name())));
            let variables =
                command.get_arguments().filter_map(|arg| Some(format!("{}\\fR env", arg.get_env()?.to_str()?)));
            for word in
                flags.chain(variables).chain(below).chain(examples(path).iter().map(|example| shown(example.does)))
            {
                assert!(page.contains(&word), "no {word} in\n{page}");
            }
            for sub in command.get_subcommands() {
                check(sub, format!("{path} {}", sub.get_name()).trim());
            }
        }
        check(&meshmq(), "");
    }

    fn man_name(command: &Command) -> &str {
        command.get_display_name().unwrap_or_else(|| command.get_name())
    }
}
