//! What the program says about itself: help, completions, manual pages.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::common::terminal::{Terminal, plain};
use crate::common::{User, run, skip};

const COMMANDS: [&str; 11] = ["push", "pull", "pub", "sub", "req", "rep", "ls", "key", "demo", "completions", "man"];

#[test]
fn help_has_colours_only_where_they_are_welcome() {
    let user = User::new();
    for args in [&["--help"][..], &["pull", "--help"], &["key", "new", "--help"]] {
        let piped = run(&mut user.meshmq(args), "");
        assert_eq!((piped.code, &piped.stderr[..]), (Some(0), ""));
        let short = run(user.meshmq(&args[..args.len() - 1]).arg("-h"), "");
        assert_eq!(short.stdout, piped.stdout, "there is one help");
        assert!(!piped.stdout.contains('\x1b'), "{:?}", piped.stdout);

        let (code, coloured) = Terminal::start(&user.meshmq(args), (24, 100)).end();
        assert_eq!(code, Some(0));
        assert!(coloured.contains("\x1b[1m\x1b[32mUsage:\x1b[0m"), "{coloured:?}");
        assert_eq!(plain(&coloured).replace("\r\n", "\n"), piped.stdout);

        let (code, calm) = Terminal::start(user.meshmq(args).env("NO_COLOR", "1"), (24, 100)).end();
        assert_eq!((code, calm.replace("\r\n", "\n")), (Some(0), piped.stdout));
    }
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let user = User::new();
    let script = r#"
        PATH=$(dirname "$M"):$PATH
        source <(meshmq completions bash)
        complete -p meshmq
        try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _meshmq meshmq "${@: -1}" "${@: -2:1}"; echo "${COMPREPLY[*]}"; }
        try meshmq pu
        try meshmq pull --me
        try meshmq completions f
    "#;
    let mut bash = user.shell("exec bash -eu -c \"$SCRIPT\"");
    let ended = run(bash.env("SCRIPT", script), "");
    assert_eq!((ended.code, &ended.stderr[..]), (Some(0), ""), "{}", ended.stdout);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert!(
        lines[0].starts_with("complete ") && lines[0].contains(" -F _meshmq ") && lines[0].ends_with(" meshmq"),
        "{lines:?}"
    );
    assert_eq!(lines[1..], ["push pull pub", "--metrics --mesh", "fish"]);
}

#[test]
fn every_shell_is_told_every_command() {
    let user = User::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = run(&mut user.meshmq(&["completions", shell]), "");
        assert_eq!((ended.code, &ended.stderr[..]), (Some(0), ""));
        for word in COMMANDS {
            assert!(ended.stdout.contains(word), "{shell}, {word}:\n{}", ended.stdout);
        }
        assert!(!ended.stdout.contains("demo-worker"), "it is for the demo's own use:\n{}", ended.stdout);
    }
    let ended = run(&mut user.meshmq(&["completions", "csh"]), "");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("bash, elvish, fish, powershell, zsh"), "{}", ended.stderr);
}

#[test]
fn manual_pages_are_written_and_can_be_read() {
    let user = User::new();
    let ended = run(&mut user.meshmq(&["man", "--dir", "share/man1"]), "");
    assert_eq!((ended.code, &ended.stdout[..]), (Some(0), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("wrote 16 pages into share/man1"), "{}", ended.stderr);
    let folder = user.home().join("share/man1");
    for name in
        COMMANDS.map(|name| format!("meshmq-{name}")).into_iter().chain(["meshmq".into(), "meshmq-key-new".into()])
    {
        let page = folder.join(format!("{name}.1"));
        let source = fs::read_to_string(&page).unwrap();
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "\"EXIT STATUS\"", "ENVIRONMENT"] {
            assert!(source.contains(&format!("\n.SH {section}\n")), "no {section} in {name}:\n{source}");
        }
        if let Some(read) = rendered(&page) {
            let title = read.lines().next().unwrap_or_default();
            assert!(title.starts_with(&format!("{name}(1) ")) && title.contains(" meshmq manual "), "{read}");
            assert!(read.contains("meshmq 0.") && !read.contains("see more with"), "{read}");
        }
    }
    let one = run(&mut user.meshmq(&["man", "key", "new"]), "");
    assert_eq!((one.code, one.stdout), (Some(0), fs::read_to_string(folder.join("meshmq-key-new.1")).unwrap()));
}

#[test]
fn a_page_that_is_not_there_is_named() {
    let user = User::new();
    for (args, words) in [
        (&["man", "pop"][..], "meshmq has no command \"pop\": there are push, pull,"),
        (&["man", "push", "hard"], "meshmq push has no command \"hard\": it has none"),
        (&["man", "--dir", "mesh.key/man"], "cannot make the folder mesh.key/man: "),
    ] {
        user.file("mesh.key", "a file");
        let ended = run(&mut user.meshmq(args), "");
        assert_eq!(ended.code, Some(if args.contains(&"--dir") { 1 } else { 2 }), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
}

/// The page as a reader sees it, without a warning; `None` where nothing is installed that can show it.
fn rendered(page: &Path) -> Option<String> {
    match Command::new("groff").args(["-man", "-Tutf8", "-ww", "-rLL=100n", "-P-c"]).arg(page).output() {
        Ok(output) => {
            let (read, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
            assert_eq!(said, "", "{}", page.display());
            // Bold is a letter over itself.
            Some(read.chars().fold(String::new(), |mut text, c| {
                if c == '\u{8}' {
                    text.pop();
                } else {
                    text.push(c);
                }
                text
            }))
        }
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            skip("manual_pages_are_written_and_can_be_read", &format!("no groff can show {}", page.display()));
            None
        }
    }
}
