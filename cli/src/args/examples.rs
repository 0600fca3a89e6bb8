//! Command lines that work, for the help and the manual pages.

/// A line for a shell, and what it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Example {
    pub(crate) line: &'static str,
    pub(crate) does: &'static str,
}

/// The examples of a command, named as in `key new`; of meshmq itself for no name.
pub(crate) fn examples(command: &str) -> &'static [Example] {
    match command {
        "" => MESHMQ,
        "push" => PUSH,
        "pull" => PULL,
        "pub" => PUB,
        "sub" => SUB,
        "req" => REQ,
        "rep" => REP,
        "ls" => LS,
        "key" => KEY,
        "key new" => KEY_NEW,
        "key show" => KEY_SHOW,
        "key set" => KEY_SET,
        "key path" => KEY_PATH,
        "demo" => DEMO,
        "completions" => COMPLETIONS,
        "man" => MAN,
        _ => &[],
    }
}

/// Environment variables, and what they say.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    ("MESHMQ_MESH, MESHMQ_LISTEN", "as the flags of these names"),
    ("MESHMQ_PEERS", "addresses as of --peer, separated by commas"),
    ("MESHMQ_NO_MDNS", "1: as --no-mdns"),
    ("MESHMQ_KEY, MESHMQ_KEY_FILE", "the mesh key, or a file that holds it"),
    ("MESHMQ_LOG", "what the library logs, for example meshmq=debug"),
    ("NO_COLOR", "1: no colours"),
];

const fn example(line: &'static str, does: &'static str) -> Example {
    Example { line, does }
}

const MESHMQ: &[Example] = &[
    example("meshmq pull jobs", "print messages; start as many as you like"),
    example("seq 1000 | meshmq push jobs", "send a thousand; ends when all are handled"),
    example("tail -f log | meshmq pub logs --topic app.web", "to everybody who wants it"),
    example("meshmq sub logs 'app.*' | jq", "who wants it"),
    example("meshmq rep upper --exec 'tr a-z A-Z'", "answer requests"),
    example("meshmq req upper hello", "ask one"),
    example("meshmq demo", "see it work"),
];

const PUSH: &[Example] = &[
    example("seq 1000 | meshmq push jobs", "ends when all are handled"),
    example("tail -f app.log | meshmq push logs", "each line as it comes"),
    example("find . -name '*.png' -print0 | meshmq push -0 images", "also names with line breaks"),
    example("meshmq push --whole thumbs a.png b.png", "two messages"),
    example("meshmq push jobs work.txt --timeout 30s || echo 'not all was handled'", ""),
];

const PULL: &[Example] = &[
    example("meshmq pull jobs", "print messages as they come"),
    example("meshmq pull jobs -n 10 --json", "ten of them, with all that is known"),
    example("meshmq pull -0 images | xargs -0 -n1 resize", "also names with line breaks"),
    example("meshmq pull jobs --exec ./resize --jobs 8", "eight at a time"),
    example("meshmq pull jobs --exec 'curl -sf -d @- http://localhost:8080/jobs'", "pass them on"),
    example("meshmq pull jobs --peer build-1.lan:7000", "from another network"),
    example("meshmq pull jobs --metrics 127.0.0.1:9464", "with figures for Prometheus"),
];

const PUB: &[Example] = &[
    example("tail -f log | meshmq pub logs --topic app.web", "each line as it comes"),
    example("meshmq sub logs --topics | meshmq pub copy --topic-from-line", "on another channel"),
    example("seq 1000 | meshmq pub ticks --wait-subscribers 2", "once two are there"),
    example("./quotes | meshmq pub ticks --topic eu.dax --retain 1", "the last one also to late subscribers"),
    example("meshmq pub big --block 10s dump.jsonl", "as fast as the slowest reads"),
];

const SUB: &[Example] = &[
    example("meshmq sub logs 'app.*' | jq", "lines of JSON, of app.web and the like"),
    example("meshmq sub logs --topics", "all, each with its topic"),
    example("meshmq sub ticks 'eu.>' us.dow -n 10 --json", "ten of them, with all that is known"),
    example("meshmq sub alerts --exec './page \"$MESHMQ_TOPIC\"'", "run a command for each"),
];

const REQ: &[Example] = &[
    example("meshmq req upper hello", "prints the reply"),
    example("meshmq req thumbs --raw < cat.png > small.png", "bytes in, bytes out"),
    example("meshmq req load --all", "ask everybody"),
    example("meshmq req price --idempotent --timeout 2s eu.dax || echo 'no price'", ""),
];

const REP: &[Example] = &[
    example("meshmq rep upper --exec 'tr a-z A-Z'", "what it prints is the reply"),
    example("meshmq rep thumbs --exec 'convert - -resize 64 png:-' --concurrency 2", "two at a time"),
    example("meshmq rep load --exec 'cut -d\" \" -f1 /proc/loadavg'", "on each machine"),
    example("meshmq rep ping --echo", "to try it"),
];

const LS: &[Example] = &[
    example("meshmq ls", "once"),
    example("meshmq ls --watch", "live"),
    example("meshmq ls -m shop --peer build-1.lan:7000", "another mesh, somewhere else"),
    example("meshmq ls --json | jq '.nodes[].status.sockets[]? | {channel, queued}'", "for programs"),
];

const KEY: &[Example] = &[
    example("meshmq key show | ssh other-machine meshmq key set", "let another machine join"),
    example("meshmq key new --key-file team.key", "a key for a mesh of others"),
    example("MESHMQ_KEY_FILE=team.key meshmq pull jobs", "join that one"),
];

const KEY_NEW: &[Example] = &[
    example("meshmq key new", "before the first program joins"),
    example("meshmq key new --key-file team.key", "a key for a mesh of others"),
];

const KEY_SHOW: &[Example] =
    &[example("meshmq key show | ssh other-machine meshmq key set", "let another machine join")];

const KEY_SET: &[Example] = &[
    example("meshmq key set", "asks for the key"),
    example("ssh other-machine meshmq key show | meshmq key set", "join its mesh"),
];

const KEY_PATH: &[Example] = &[example("ls -l \"$(meshmq key path)\"", "who may read it")];

const DEMO: &[Example] =
    &[example("meshmq demo", "the texts of this folder"), example("meshmq demo ~/notes --workers 5", "")];

const COMPLETIONS: &[Example] = &[
    example("source <(meshmq completions bash)", "in this shell"),
    example("meshmq completions bash > ~/.local/share/bash-completion/completions/meshmq", "in each"),
    example("meshmq completions zsh > ~/.zfunc/_meshmq", "with fpath+=~/.zfunc"),
    example("meshmq completions fish > ~/.config/fish/completions/meshmq.fish", ""),
];

const MAN: &[Example] = &[
    example("meshmq man push | man -l -", "read one"),
    example("meshmq man --dir ~/.local/share/man/man1", "then: man meshmq-push"),
];

#[cfg(test)]
mod tests {
    use std::process::Command;

    use clap::Parser;

    use super::*;
    use crate::args::Args;

    /// Each command with its full name, without the root's.
    fn commands() -> Vec<String> {
        fn below(command: &clap::Command, path: &str, found: &mut Vec<String>) {
            found.push(path.to_owned());
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                below(sub, format!("{path} {}", sub.get_name()).trim(), found);
            }
        }
        let mut found = Vec::new();
        below(&Args::command_line(), "", &mut found);
        found
    }

    /// The words of each `meshmq …` in a line for a shell.
    fn calls(line: &str) -> Vec<Vec<String>> {
        let mut calls = Vec::new();
        let (mut words, mut word, mut quote) = (Vec::<String>::new(), None::<String>, None);
        for c in line.chars().chain(['\n']) {
            match (quote, c) {
                (Some(open), _) if c == open => quote = None,
                (None, '\'') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, ' ' | '\n' | '|' | '<' | '>' | '(' | ')' | '"' | '$') => {
                    words.extend(word.take());
                    if c != ' ' {
                        let at = words.iter().position(|word| word == "meshmq");
                        calls.extend(at.map(|at| words.split_off(at)));
                        words.clear();
                    }
                }
                _ => word.get_or_insert_default().push(c),
            }
        }
        calls
    }

    #[test]
    fn every_command_has_examples_that_are_its_own_and_parse() {
        for command in commands() {
            let examples = examples(&command);
            assert!(!examples.is_empty(), "{command:?} has none");
            for example in examples {
                let calls = calls(example.line);
                let own = format!("meshmq {command}");
                assert!(
                    command == "key" || calls.iter().any(|call| call.join(" ").starts_with(own.trim())),
                    "{} is not about {own}",
                    example.line
                );
                for call in calls {
                    if let Err(error) = Args::try_parse_from(&call) {
                        panic!("{}: {call:?}: {error}", example.line);
                    }
                }
                let checked = Command::new("bash").args(["-n", "-c", example.line]).output().unwrap();
                assert!(checked.status.success(), "{}: {checked:?}", example.line);
            }
        }
    }

    #[test]
    fn a_line_for_a_shell_is_read() {
        let line = "A=1 meshmq pull 'a b' --exec 'c | d' | e || meshmq ls > \"$(meshmq key path)\"";
        let expected: &[&[&str]] =
            &[&["meshmq", "pull", "a b", "--exec", "c | d"], &["meshmq", "ls"], &["meshmq", "key", "path"]];
        assert_eq!(calls(line), expected);
    }
}
