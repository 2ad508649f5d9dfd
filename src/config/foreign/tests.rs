//! Tests of the table of foreign names: its keys exist, and the documentation has every row.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;
use crate::config::validate::ConfigSchema;

#[test]
fn every_row_names_a_key_that_exists() {
    let schema = ConfigSchema::default();
    for row in TABLE {
        let meaning = find(row.names[0]).unwrap();
        if let Some(address) = meaning.address() {
            assert!(schema.knows(&address), "{address}");
        }
    }
}

#[test]
fn no_name_means_two_things() {
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    for name in TABLE.iter().flat_map(|row| row.names) {
        assert_eq!(known.insert(normalized(name), name), None, "{name}");
    }
}

#[test]
fn no_row_hides_a_key_of_a_model_from_its_own_spelling() {
    let schema = ConfigSchema::default();
    for key in schema.keys(&Address::new(["defaults"])) {
        let spellings = [key.to_owned(), key.replace('_', "-")];
        for name in spellings {
            let meaning = find(&name);
            assert!(
                meaning.is_none_or(|meaning| meaning.key == Some(key)),
                "{name}"
            );
        }
    }
}

#[test]
fn a_name_is_found_however_it_is_spelled() {
    let n_ctx = Some("n_ctx");
    for name in [
        "ctx-size",
        "ctx_size",
        "ctxSize",
        "CTX_SIZE",
        "c",
        "contextLength",
    ] {
        assert_eq!(find(name).and_then(|meaning| meaning.key), n_ctx, "{name}");
    }
    assert_eq!(find("mmproj").unwrap().key, None);
    assert_eq!(find("nonsense"), None);
}

#[test]
fn the_page_on_moving_has_every_row() {
    let page = include_str!("../../../docs/coming-from.md");
    let mut table = String::from("| elsewhere | here |\n| --- | --- |\n");
    for row in TABLE {
        let names: Vec<String> = row.names.iter().map(|name| format!("`{name}`")).collect();
        let here = match row.key {
            Some(key) => join(&format!("`{key}`"), row.note),
            None => row.note.to_owned(),
        };
        writeln!(table, "| {} | {here} |", names.join(", ")).unwrap();
    }
    assert!(page.contains(&table), "docs/coming-from.md lacks:\n{table}");
}
