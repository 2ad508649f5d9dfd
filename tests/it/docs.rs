//! What the documentation says is so: its commands are run, and it has a word on every error.
//!
//! A block of `sh` is run by bash as it stands, in a folder with a tiny `model.gguf`, which the blocks of a page share. A comment
//! before a block says otherwise: `<!-- server -->` runs until the page ends, `<!-- not run: REASON -->` is left out, and a block of
//! `toml` with `<!-- check -->` must pass `config check`.

mod page;
mod run;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use strum::IntoEnumIterator as _;

use crate::support::example::repository;
use llama_mcp_server::error_code::ErrorCode;

/// Before the pages are a book, no command is marked.
fn is_book() -> bool {
    repository("docs/SUMMARY.md").exists()
}

/// `README.md` and all of `docs`, by name.
fn pages() -> Vec<(String, String)> {
    let mut files = vec![repository("README.md")];
    find(&repository("docs"), &mut files);
    files.sort();
    let named = |file: PathBuf| {
        let name = file.strip_prefix(repository("")).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        (name.to_str().unwrap().to_owned(), text)
    };
    files.into_iter().map(named).collect()
}

fn find(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

#[test]
fn every_command_works() {
    if !is_book() {
        return;
    }
    // One after the other: their servers have the same port.
    let failures: Vec<String> = pages()
        .iter()
        .filter_map(|(name, text)| run::run(name, text).err())
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

#[test]
fn every_error_has_a_word_in_the_pages_and_no_other_has() {
    if !is_book() {
        return;
    }
    let pages = pages();
    let (_, page) = pages
        .iter()
        .find(|(name, _)| name.ends_with("/errors.md"))
        .unwrap();
    let explained: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'))
        .collect();
    let codes: BTreeSet<&str> = ErrorCode::iter().map(ErrorCode::name).collect();
    assert_eq!(explained, codes);
}

const GOOD: &str = "
```sh
echo 'of one block' >file
```

- In a list:

  <!-- server -->
  ```sh
  llama-mcp-server --model model.gguf --transport http --port 18473
  ```

<!-- check -->
```toml
[models.small]
path = \"model.gguf\"
```

```sh
test \"$(cat file)\" = 'of one block'
test -z \"$(env | grep LLAMA_MCP)\" && test -d ~ && test ~ != \"$PWD\"
llama-mcp-server health --port 18473
```

<!-- not run: it would fail -->
```sh
exit 1
```

```json
no command
```
";

#[test]
fn the_blocks_of_a_page_follow_each_other() {
    assert_eq!(run::run("good.md", GOOD), Ok(()));
    // Its server has ended.
    assert_eq!(run::run("again.md", GOOD), Ok(()));
}

#[test]
fn a_block_that_fails_is_told_with_its_place_and_its_output() {
    for (page, told) in [
        (
            "# Title\n\n```sh\necho one\nfalse | true\necho two\n```\n",
            "bad.md:3: ended with exit status: 1\n    echo one\n    false | true\n    echo two\nIts output:\n    one\n",
        ),
        (
            "```sh\necho \"$UNSET\"\n```\n",
            "bad.md:1: ended with exit status: 1\n",
        ),
        (
            "<!-- server -->\n\n```sh\nllama-mcp-server --model none.gguf\n```\n",
            "bad.md:3: ended before it listened\n",
        ),
        (
            "<!-- check -->\n```toml\n[models.a]\npath = 1\n```\n",
            "bad.md:2: ended with exit status: 2\n",
        ),
        (
            "<!-- not run: -->\n```sh\nfalse\n```\n",
            "bad.md:2: is not run, and does not say why\n",
        ),
        (
            "<!-- serve -->\n```sh\nfalse\n```\n",
            "bad.md:2: `<!-- serve -->` says nothing of a block of `sh`\n",
        ),
        (
            "<!-- server -->\n```toml\n```\n",
            "bad.md:2: `<!-- server -->` says nothing of a block of `toml`\n",
        ),
        (
            "```bash\nfalse\n```\n",
            "bad.md:1: is never run: call it `sh`\n",
        ),
    ] {
        let failure = run::run("bad.md", page).unwrap_err();
        assert!(failure.starts_with(told), "{failure}");
    }
}
