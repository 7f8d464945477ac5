//! `Source`: one Rust file as the tidy test reads it, without comments and literals, cut into paths.

use std::path::{Path, PathBuf};

/// One file, with everything blanked that is no code. Lines stay where they were.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the package's root, with `/`.
    pub(crate) name: String,
    pub(crate) text: String,
    code: String,
    /// For each line, whether it is compiled for tests alone.
    test_lines: Vec<bool>,
    /// Files that are compiled for tests alone because this file says so, and all below them.
    pub(crate) test_files: Vec<String>,
}

/// A path such as `crate::vocab::Pan`, groups taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodePath {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// How many modules the place is inside of within its file.
    pub(crate) inline_modules: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// The package's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A text file of the package.
pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All Rust files below a folder, in the order of their names, those for tests alone marked as such.
pub(crate) fn sources(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&root().join(folder), &mut files);
    files.sort();
    let mut sources: Vec<Source> = files
        .into_iter()
        .map(|file| {
            let name = file.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            let text = read(&name);
            Source::new(name, text)
        })
        .collect();
    let test_files: Vec<String> = sources.iter().flat_map(|source| source.test_files.clone()).collect();
    for source in &mut sources {
        if test_files.iter().any(|test| source.name == *test || source.name.starts_with(&format!("{test}/")))
        {
            source.test_lines.fill(true);
        }
    }
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    pub(crate) fn new(name: String, text: String) -> Self {
        let code = without_comments_and_literals(&text);
        let (test_lines, test_files) = test_only(&name, &code);
        Self { name, text, code, test_lines, test_files }
    }

    /// Whether the line, counted from 1, is compiled for tests alone.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line - 1).copied().unwrap_or(false)
    }

    pub(crate) fn lines_without_tests(&self) -> usize {
        self.test_lines.iter().filter(|test| !**test).count()
    }

    /// The modules that lead to this file, from the crate's root: `src/codec/tlv.rs` is `codec`, `tlv`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let inside = self.name.strip_prefix("src/").unwrap_or(&self.name).trim_end_matches(".rs");
        inside.split('/').filter(|part| !matches!(*part, "mod" | "lib" | "main")).collect()
    }

    /// All paths of more than one segment.
    pub(crate) fn paths(&self) -> Vec<CodePath> {
        let tokens = tokens(&self.code);
        let mut paths = Vec::new();
        let mut at = 0;
        let mut depth = 0_usize;
        let mut modules = Vec::new();
        while at < tokens.len() {
            match tokens[at].text {
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if modules.last() == Some(&depth) {
                        modules.pop();
                    }
                }
                "mod" if tokens.get(at + 2).is_some_and(|token| token.text == "{") => modules.push(depth),
                _ => {}
            }
            let starts = is_word(tokens[at].text)
                && tokens.get(at + 1).is_some_and(|token| token.text == "::")
                && (at == 0 || !matches!(tokens[at - 1].text, "::" | "."));
            if starts {
                at = path(&tokens, at, &mut Vec::new(), modules.len(), &mut paths);
            } else {
                at += 1;
            }
        }
        paths
    }

    /// All words of the code, with their lines.
    pub(crate) fn words(&self) -> impl Iterator<Item = (&str, usize)> {
        tokens(&self.code)
            .into_iter()
            .filter(|token| is_word(token.text))
            .map(|token| (token.text, token.line))
    }

    /// The modules that this file declares visible beyond itself, with their lines.
    pub(crate) fn open_modules(&self) -> Vec<(&str, usize)> {
        let tokens = tokens(&self.code);
        let mut open = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let declares = token.text == "mod" && at > 0 && matches!(tokens[at - 1].text, "pub" | ")");
            if declares && let Some(name) = tokens.get(at + 1) {
                open.push((name.text, name.line));
            }
        }
        open
    }
}

/// Takes one path apart, from its word at `at`; gives the place behind it.
fn path(
    tokens: &[Token<'_>],
    mut at: usize,
    before: &mut Vec<String>,
    inline_modules: usize,
    paths: &mut Vec<CodePath>,
) -> usize {
    let kept = before.len();
    let line = tokens[at].line;
    before.push(tokens[at].text.to_owned());
    at += 1;
    while tokens.get(at).is_some_and(|token| token.text == "::") {
        match tokens.get(at + 1) {
            Some(token) if is_word(token.text) => {
                before.push(token.text.to_owned());
                at += 2;
            }
            Some(token) if token.text == "{" => {
                at += 2;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    if is_word(tokens[at].text) {
                        at = path(tokens, at, before, inline_modules, paths);
                    } else {
                        at += 1;
                    }
                }
                before.truncate(kept);
                return at + 1;
            }
            _ => {
                at += 1;
                break;
            }
        }
    }
    paths.push(CodePath { segments: before.clone(), line, inline_modules });
    before.truncate(kept);
    at
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Words, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let bytes = code.as_bytes();
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < bytes.len() {
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let length = match bytes[at] {
            b'\n' => {
                line += 1;
                at += 1;
                continue;
            }
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            byte if word(&byte) => bytes[at..].iter().take_while(|byte| word(byte)).count(),
            b':' if bytes.get(at + 1) == Some(&b':') => 2,
            _ => 1,
        };
        tokens.push(Token { text: &code[at..at + length], line });
        at += length;
    }
    tokens
}

/// The text with comments and the insides of literals as blanks, characters outside ASCII too.
fn without_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code: Vec<u8> =
        bytes.iter().map(|byte| if byte.is_ascii() || *byte == b'\n' { *byte } else { b' ' }).collect();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = at + literal_or_comment(rest, at.checked_sub(1).map(|before| bytes[before]));
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).unwrap()
}

/// How many bytes the comment or literal takes that begins here; none when none begins.
fn literal_or_comment(rest: &[u8], before: Option<u8>) -> usize {
    let inside_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let to = |found: Option<usize>| found.unwrap_or(rest.len());
    match rest {
        [b'/', b'/', ..] => to(rest.iter().position(|byte| *byte == b'\n')),
        [b'/', b'*', ..] => to(find(rest, b"*/").map(|end| end + 2)),
        [b'"', ..] => quoted(rest, b'"'),
        [b'b', b'"', ..] if !inside_word => 1 + quoted(&rest[1..], b'"'),
        [b'r', b'"' | b'#', ..] if !inside_word => raw(rest, 1),
        [b'b', b'r', b'"' | b'#', ..] if !inside_word => raw(rest, 2),
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        [b'\'', first, ..] => {
            // A character, or a lifetime.
            let length = match first {
                0xF0.. => 4,
                0xE0.. => 3,
                0xC0.. => 2,
                _ => 1,
            };
            if rest.get(1 + length) == Some(&b'\'') { 2 + length } else { 0 }
        }
        _ => 0,
    }
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// A raw string, or nothing when it is a raw identifier. `prefix` bytes come before the hashes.
fn raw(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return 0;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let start = prefix + hashes + 1;
    find(&rest[start..], &close).map_or(rest.len(), |end| start + end + close.len())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Which lines, and which other files, are compiled for tests alone: what stands behind `#[cfg(test)]`.
fn test_only(name: &str, code: &str) -> (Vec<bool>, Vec<String>) {
    let mut lines = vec![false; code.lines().count()];
    let mut files = Vec::new();
    let tokens = tokens(code);
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    for at in 0..tokens.len() {
        if !marker.iter().enumerate().all(|(n, text)| tokens.get(at + n).is_some_and(|t| t.text == *text)) {
            continue;
        }
        let item = at + marker.len();
        let end = item_end(&tokens, item);
        let last = tokens.get(end).map_or(lines.len(), |token| token.line);
        lines[tokens[at].line - 1..last].fill(true);
        if let Some(module) = tokens[item..=end.min(tokens.len() - 1)].iter().position(|t| t.text == "mod")
            && tokens.get(item + module + 2).is_some_and(|token| token.text == ";")
        {
            let folder = match name.rsplit_once('/') {
                Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
                _ => name.trim_end_matches(".rs").to_owned(),
            };
            let module = tokens[item + module + 1].text;
            files.push(format!("{folder}/{module}"));
            files.push(format!("{folder}/{module}.rs"));
        }
    }
    (lines, files)
}

/// The token that ends the item which begins at `at`, attributes before it included.
fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut open = 0_usize;
    while at < tokens.len() {
        match tokens[at].text {
            "{" | "(" | "[" => open += 1,
            ")" | "]" => open = open.saturating_sub(1),
            "}" => {
                open = open.saturating_sub(1);
                if open == 0 {
                    return at;
                }
            }
            ";" | "," if open == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let source = Source::new("src/a/b.rs".into(), text.into());
        source.paths().into_iter().map(|path| format!("{}:{}", path.segments.join("::"), path.line)).collect()
    }

    #[test]
    fn paths_are_taken_apart_and_literals_are_none() {
        for (text, expected) in [
            ("use crate::vocab::Pan;", vec!["crate::vocab::Pan:1"]),
            ("use crate::{\n a::{B, c::D},\n e};", vec!["crate::a::B:2", "crate::a::c::D:2", "crate::e:3"]),
            ("x.y::<u8>(); a::b::<C>::d()", vec!["a::b:1"]),
            ("// crate::a\n/* crate::b */ \"crate::c\" r#\"crate::\"d\"# b\"crate::e\"", vec![]),
            ("let c: &'a str = f('\"', '\\''); crate::a", vec!["crate::a:1"]),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn tests_are_told_from_the_rest() {
        let text = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n\
                    #[cfg(test)]\nmod more;\n";
        let source = Source::new("src/a/mod.rs".into(), text.into());
        let test: Vec<usize> = (1..=9).filter(|line| source.is_test(*line)).collect();
        assert_eq!(test, [2, 3, 4, 5, 6, 8, 9]);
        assert_eq!(source.test_files, ["src/a/more", "src/a/more.rs"]);
        assert_eq!(source.lines_without_tests(), 2);
    }

    #[test]
    fn modules_of_files() {
        for (name, module) in [
            ("src/lib.rs", vec![]),
            ("src/tls.rs", vec!["tls"]),
            ("src/codec/mod.rs", vec!["codec"]),
            ("src/tsp/log/mod.rs", vec!["tsp", "log"]),
        ] {
            assert_eq!(Source::new(name.into(), String::new()).module(), module);
        }
    }
}
