//! Tests against the output of Python's Jinja2.

use minijinja::{AutoEscape, Environment, Error, context};

fn rendered(expression: &str, text: &str) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    crate::engine::template::add_python(&mut environment);
    environment.render_str(&format!("{{{{ {expression} }}}}"), context! { t => text })
}

#[test]
fn filters_give_the_output_of_jinja2() {
    for (expression, text, expected) in [
        ("t | truncate(10)", "The quick brown fox", "The..."),
        (
            "t | truncate(length=9, killwords=true, end='..', leeway=0)",
            "The quick brown",
            "The qui..",
        ),
        ("t | truncate", "short", "short"),
        ("t | wordcount", "well-known, Ünïcode_x 🦀", "3"),
        (
            "t | striptags",
            "<b>Bold</b> &amp; <!-- c --> text",
            "Bold & text",
        ),
        ("t | center(7)", "ab", "   ab  "),
        ("t | center(width=6)", "abc", " abc  "),
        ("t | urlencode", "a b/é&", "a%20b/%C3%A9%26"),
        ("{'a b': t} | urlencode", "c/d e", "a+b=c%2Fd+e"),
        ("[['k', t]] | urlencode", "v", "k=v"),
        ("t | length | filesizeformat", "abc", "3 Bytes"),
    ] {
        assert_eq!(
            rendered(expression, text).unwrap(),
            expected,
            "{expression}"
        );
    }
    for wrong in [
        "t | truncate(1, 2, 3, 4, 5)",
        "t | truncate(size=3)",
        "t | center(100000)",
    ] {
        assert!(rendered(wrong, "a long text").is_err(), "{wrong}");
    }
}

#[test]
fn lines_are_wrapped_like_in_python() {
    for (arguments, text, expected) in [
        ("10", "The quick brown fox", "The quick\nbrown fox"),
        ("10", "one\n\n two  three four", "one\n\n two\nthree four"),
        ("6", "state-of-the-art", "state-\nof-\nthe-\nart"),
        (
            "6, break_on_hyphens=false",
            "state-of-the-art",
            "state-\nof-the\n-art",
        ),
        ("7", "x-y-z 3-4 a -- b--c", "x-y-z\n3-4 a\n-- b--c"),
        ("4", "abcdefghij kl", "abcd\nefgh\nij\nkl"),
        ("4, false", "abcdefghij kl", "abcdefghij\nkl"),
        ("width=5, wrapstring='|'", "ab cd ef", "ab cd|ef"),
    ] {
        let expression = format!("t | wordwrap({arguments})");
        assert_eq!(
            rendered(&expression, text).unwrap(),
            expected,
            "{expression} of {text:?}"
        );
    }
    assert!(rendered("t | wordwrap(0)", "text").is_err());
}

#[test]
fn string_methods_give_the_results_of_python() {
    for (expression, text, expected) in [
        ("t.strip() ~ '|'", " a ", "a|"),
        ("t.split(',') | join(';')", "a,b,,c", "a;b;;c"),
        ("t.rsplit(',', 1) | join(';')", "a,b,c", "a,b;c"),
        ("t.rsplit(none, 1) | join(';')", " a b  c ", " a b;c"),
        ("t.rsplit() | join(';')", " a b  c ", "a;b;c"),
        ("t.partition('=') | join(';')", "a=b=c", "a;=;b=c"),
        ("t.rpartition('=') | join(';')", "a=b=c", "a=b;=;c"),
        ("t.rpartition('=') | join(';')", "a", ";;a"),
        ("t.removeprefix('a').removesuffix('c')", "abc", "b"),
        (
            "t.ljust(3, '.') ~ t.rjust(3) ~ t.center(4, '*')",
            "a",
            "a..  a*a**",
        ),
        ("t.zfill(5)", "-12", "-0012"),
        (
            "t.title()",
            "o'neil went <b>home</b>",
            "O'Neil Went <B>Home</B>",
        ),
        ("t.swapcase() ~ t.casefold()", "aBc", "AbCabc"),
        ("t.index('c') ~ t.rindex('é')", "éécé", "23"),
        ("', '.join(t.split())", "a b", "a, b"),
        ("t.split(sep=',', maxsplit=1) | join('|')", "a,b,c", "a|b,c"),
        ("t.split(',', maxsplit=1) | join('|')", "a,b,c", "a|b,c"),
        ("t.split(',', -1) | join('|')", "a,b,c", "a|b|c"),
        ("t.split(maxsplit=1) | join('|')", " a  b  c ", "a|b  c "),
        ("t.split(none, 0) | join('|')", " a  b  c ", "a  b  c "),
        ("t.split() | join('|')", " a  b  c ", "a|b|c"),
        ("t.split() | length ~ t.split(',') | length", "", "01"),
        (
            "t.rsplit(sep=',', maxsplit=1) | join('|')",
            "a,b,c",
            "a,b|c",
        ),
        ("t.rsplit(maxsplit=1) | join('|')", " a  b  c ", " a  b|c"),
        (
            "t.splitlines() | join('|')",
            "a\r\nb\rc\u{2028}d\n",
            "a|b|c|d",
        ),
        (
            "t.splitlines(keepends=true) | join('|')",
            "a\n\r\nb\n",
            "a\n|\r\n|b\n",
        ),
        ("t.splitlines(true) | join('|')", "a\n\nb", "a\n|\n|b"),
        ("t.expandtabs()", "a\tbc\td", "a       bc      d"),
        ("t.expandtabs(4)", "a\tb\n\tc", "a   b\n    c"),
        ("t.expandtabs(tabsize=0)", "a\tb", "ab"),
        ("t.expandtabs(3)", "é\tb", "é  b"),
    ] {
        assert_eq!(
            rendered(expression, text).unwrap(),
            expected,
            "{expression}"
        );
    }
    for wrong in [
        "t.index('x')",
        "t.ljust(100000)",
        "t.rjust(9, 'ab')",
        "t.partition('')",
        "t.split('')",
        "t.split(by=',')",
        "t.expandtabs(1000)",
        "t.gone()",
    ] {
        assert!(rendered(wrong, "a").is_err(), "{wrong}");
    }
}
