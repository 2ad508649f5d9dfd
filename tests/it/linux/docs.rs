//! The documentation is true: its commands run, and it covers every error.
//!
//! Bash runs each block of `sh`, and Python each block of `python`, in a folder with a tiny `model.gguf`, which the blocks of a page share.
//! A comment before a block changes that: a block after `<!-- server -->` runs until the page ends, a block after `<!-- not run: REASON
//! -->` is skipped (Python must still compile), and a block of `toml` after `<!-- check -->` must pass `config check`.

mod page;
mod run;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use strum::IntoEnumIterator as _;

use crate::support::example::repository;
use llama_mcp_server::internals::ErrorCode;

/// Returns `README.md` and all pages of `docs`, with their names.
fn pages() -> Vec<(String, String)> {
    let mut files = vec![repository("README.md")];
    find(&repository("docs"), "md", &mut files);
    files.sort();
    let named = |file: PathBuf| {
        let name = file.strip_prefix(repository("")).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        (name.to_str().unwrap().to_owned(), text)
    };
    files.into_iter().map(named).collect()
}

/// Adds the files below `folder` with this extension to `files`.
fn find(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, extension, files);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
}

#[test]
fn every_command_works() {
    // Pages run one after another, because their servers use the same port.
    let failures: Vec<String> = pages()
        .iter()
        .filter_map(|(name, text)| run::run(name, text).err())
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

#[test]
fn the_pages_document_exactly_the_existing_errors() {
    let page = std::fs::read_to_string(repository("docs/errors.md")).unwrap();
    let explained = headings(&page, "## `", "`");
    let codes: BTreeSet<&str> = ErrorCode::iter().map(ErrorCode::name).collect();
    assert_eq!(explained, codes);
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut missing = Vec::new();
    for (name, text) in &pages {
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split(')').next().unwrap();
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = match file {
                "" => repository(name),
                file => repository(name).with_file_name("").join(file),
            };
            let is_there = match anchor {
                "" => file.exists(),
                anchor => {
                    std::fs::read_to_string(&file).is_ok_and(|page| has_anchor(&page, anchor))
                }
            };
            if !is_there {
                missing.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Returns whether `anchor` leads to a heading of `page`, with anchors as GitHub and mdBook create them.
fn has_anchor(page: &str, anchor: &str) -> bool {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings.into_iter().any(|heading| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c })
            .eq(anchor.chars())
    })
}

#[test]
fn every_http_status_and_json_rpc_code_is_documented() {
    let page = std::fs::read_to_string(repository("docs/errors.md")).unwrap();
    let json_rpc = std::fs::read_to_string(repository("src/mcp/jsonrpc.rs")).unwrap();
    let numbers: BTreeSet<&str> = json_rpc
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split_once(": i64 = "))
        .map(|(_, number)| number.trim_end_matches(';'))
        .collect();
    assert!(numbers.contains("-32700"));
    let explained = headings(&page, "## JSON-RPC ", "");
    assert!(numbers.is_subset(&explained), "{numbers:?} {explained:?}");
    let explained = headings(&page, "## HTTP ", "");
    let mut sources = Vec::new();
    find(&repository("src/transport"), "rs", &mut sources);
    for source in sources {
        let text = std::fs::read_to_string(&source).unwrap();
        for (at, _) in text.match_indices("StatusCode::") {
            let name = text[at + "StatusCode::".len()..]
                .split(|c: char| !c.is_ascii_uppercase() && c != '_')
                .next()
                .unwrap();
            let number = status(name);
            let is_refusal = number >= "400";
            assert!(!is_refusal || explained.contains(number), "{name}");
        }
    }
}

fn headings<'page>(page: &'page str, begin: &str, end: &str) -> BTreeSet<&'page str> {
    page.lines()
        .filter_map(|line| line.strip_prefix(begin)?.strip_suffix(end))
        .collect()
}

/// Returns the number of a status that hyper names.
fn status(name: &str) -> &'static str {
    match name {
        "OK" | "ACCEPTED" | "NO_CONTENT" => "200",
        "BAD_REQUEST" => "400",
        "UNAUTHORIZED" => "401",
        "FORBIDDEN" => "403",
        "NOT_FOUND" => "404",
        "METHOD_NOT_ALLOWED" => "405",
        "NOT_ACCEPTABLE" => "406",
        "REQUEST_TIMEOUT" => "408",
        "PAYLOAD_TOO_LARGE" => "413",
        "UNSUPPORTED_MEDIA_TYPE" => "415",
        "TOO_MANY_REQUESTS" => "429",
        "INTERNAL_SERVER_ERROR" => "500",
        "NOT_IMPLEMENTED" => "501",
        "SERVICE_UNAVAILABLE" => "503",
        other => panic!("which number is `{other}`?"),
    }
}

/// A page whose blocks all succeed. Its port is not an ephemeral one, so no server of another test uses it.
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

```python
assert open(\"file\").read() == \"of one block\\n\"
```

<!-- not run: it would fail -->
```sh
exit 1
```

<!-- not run: it would fail -->
```python
import none_of_that_name
```

```json
no command
```
";

#[test]
fn the_blocks_of_a_page_share_a_folder_and_run_in_order() {
    assert_eq!(run::run("good.md", GOOD), Ok(()));
    // The server of the page has ended.
    assert_eq!(run::run("again.md", GOOD), Ok(()));
}

#[test]
fn a_failing_block_is_reported_with_its_location_and_output() {
    for (page, message) in [
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
            "```python\nprint('one')\nassert False\n```\n",
            "bad.md:1: ended with exit status: 1\n    print('one')\n    assert False\nIts output:\n    one\n",
        ),
        (
            "<!-- not run: needs a package -->\n```python\nasync main():\n```\n",
            "bad.md:2: ended with exit status: 1\n",
        ),
        (
            "<!-- not run: -->\n```python\n```\n",
            "bad.md:2: is not run, and does not say why\n",
        ),
        ("```py\n```\n", "bad.md:1: is never run: call it `python`\n"),
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
        assert!(failure.starts_with(message), "{failure}");
    }
}
