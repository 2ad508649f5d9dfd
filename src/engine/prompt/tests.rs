//! Tests of prompts, with a vocabulary of bytes.

use serde_json::{Value, json};

use super::*;
use crate::engine::Role;
use crate::engine::shared_prefix::PromptSamples;
use crate::engine::token::tokens as numbers;
use crate::engine::vocabulary::SpecialToken;

fn context(n_ctx: u32) -> ContextSize {
    ContextSize {
        n_ctx,
        trained: n_ctx,
    }
}

/// A vocabulary of bytes, where `<s>` (256), `<end>` (257) and `<think>` (258) are control tokens.
struct Bytes {
    adds_bos: bool,
}

const CONTROLS: [&str; 3] = ["<s>", "<end>", "<think>"];

impl Vocabulary for Bytes {
    fn tokenize(&self, text: &str, parse_special: bool) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.bytes().next() {
            let control = CONTROLS
                .iter()
                .position(|control| parse_special && rest.starts_with(control));
            if let Some(control) = control {
                tokens.push(Token(256 + i32::try_from(control).unwrap()));
                rest = &rest[CONTROLS[control].len()..];
            } else {
                tokens.push(first.into());
                rest = std::str::from_utf8(&rest.as_bytes()[1..]).unwrap();
            }
        }
        tokens
    }
    fn bos(&self) -> Option<Token> {
        Some(Token(256))
    }
    fn adds_bos(&self) -> bool {
        self.adds_bos
    }
    fn control_texts(&self, _: &str) -> Vec<String> {
        CONTROLS.map(str::to_owned).into()
    }
    fn longest_token(&self) -> usize {
        7
    }
    fn blanks(&self) -> Vec<Token> {
        vec![b'\n'.into(), b' '.into()]
    }
    fn special_texts(&self) -> Vec<String> {
        CONTROLS.map(str::to_owned).into()
    }
    fn special_tokens(&self) -> Option<Vec<SpecialToken>> {
        let special = |text: &str| SpecialToken {
            text: text.to_owned(),
            is_control: true,
        };
        Some(CONTROLS.map(special).into())
    }
    fn begins(&self, text: &str) -> Vec<(Token, usize)> {
        let whole = CONTROLS
            .iter()
            .zip((256..).map(Token))
            .filter(|(own, _)| **own == text);
        whole.map(|(own, token)| (token, own.len())).collect()
    }
}

fn builder(source: Option<&str>, adds_bos: bool) -> PromptBuilder<Bytes> {
    let template = source.map(|source| {
        (
            ChatTemplate::new(source, "<s>".into(), "<end>".into()).unwrap(),
            source,
        )
    });
    PromptBuilder::new(Bytes { adds_bos }, template, None, context(100)).unwrap()
}

fn user(content: &str) -> Conversation {
    Conversation {
        messages: vec![Message {
            role: Role::User,
            content: content.into(),
        }],
        thinking: ThinkingOutput::Strip,
        json_schema: None,
        thinking_budget: None,
        template_arguments: serde_json::Map::new(),
    }
}

fn tokens(source: Option<&str>, adds_bos: bool, content: &str) -> Vec<Token> {
    builder(source, adds_bos)
        .build(&user(content))
        .unwrap()
        .tokens
}

const CHAT: &str = "{% for m in messages %}{{ m.content }}<end>{% endfor %}";

#[test]
fn control_tokens_are_parsed_in_the_template_and_not_in_messages() {
    let mut expected: Vec<Token> = "a<end>b".bytes().map(Token::from).collect();
    expected.push(Token(257));
    assert_eq!(tokens(Some(CHAT), false, "a<end>b"), expected);
}

/// Returns the pieces of the message `a<end>b`, if the template prints `cut` of it with its marks.
fn pieces(cut: impl Fn(&str) -> String) -> Vec<Piece> {
    let built = builder(Some(CHAT), false);
    let messages = user("a<end>b").messages;
    let marks = Marks::absent_from(&messages, &Variables::new()).unwrap();
    let marked = built.controls.mark(&messages[0], marks);
    let printed = format!("{}<end>", cut(&marked.content));
    built.controls.split(&printed, marks)
}

#[test]
fn the_templates_own_tokens_are_parsed_even_if_it_cuts_off_a_mark() {
    let before_e = |text: &str| text.split('e').next().unwrap().to_owned();
    assert_eq!(pieces(before_e), [Piece::of_template("a<<end>")]);
}

#[test]
fn a_token_without_its_closing_mark_is_still_text() {
    // Cut behind the token, so that only the opening mark is left.
    let to_the_token = |text: &str| text.chars().take(7).collect();
    let expected = [
        Piece::of_template("a"),
        Piece::plain("<"),
        Piece::plain("end>"),
        Piece::of_template("<end>"),
    ];
    assert_eq!(pieces(to_the_token), expected);
}

#[test]
fn a_message_that_the_template_leaves_out_is_an_error() {
    let error = builder(Some("{{ bos_token }}"), true)
        .build(&user("a<end>b"))
        .unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Template);
    assert_eq!(error.text, "the chat template leaves out message 1 (user)");
}

#[test]
fn a_text_that_cannot_fit_is_rejected_before_it_is_rendered() {
    let error = builder(Some(CHAT), false)
        .build(&user(&"x".repeat(7 << 20)))
        .unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::ContextOverflow);
    assert_eq!(
        error.text,
        "the prompt has at least 1048576 tokens, but the model's context holds only 100, including the answer"
    );
}

#[test]
fn a_long_text_is_tokenised_until_it_cannot_fit_and_a_short_one_to_its_end() {
    let text = |bytes: usize| "<end>".repeat(bytes / 5);
    let built = PromptBuilder::new(Bytes { adds_bos: false }, None, None, context(20_000)).unwrap();
    let tokens = |text: &str| {
        built
            .tokenize(&[Piece::of_template(text)])
            .map(|all| all.len())
    };
    // The scheduler rejects the short one with the exact number.
    assert_eq!(tokens(&text(65_000)), Ok(13_000));
    let error = tokens(&text(5_000_000)).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::ContextOverflow);
    assert!(
        error.text.starts_with("the prompt has at least 20"),
        "{error}"
    );
}

#[test]
fn marks_in_a_message_are_text() {
    let content = "\u{fdd0}<end>\u{fdd1}";
    let mut expected: Vec<Token> = content.bytes().map(Token::from).collect();
    expected.push(Token(257));
    // The test vocabulary requires ASCII, so compare the pieces.
    let built = builder(Some(CHAT), false);
    let marks = Marks::absent_from(&user(content).messages, &Variables::new()).unwrap();
    let marked = built.controls.mark(&user(content).messages[0], marks);
    let pieces = built.controls.split(&marked.content, marks);
    let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    assert_eq!(text, content);
    assert_eq!(pieces[1..3], [Piece::plain("<"), Piece::plain("end>")]);
}

#[test]
fn the_bos_token_occurs_once_whether_or_not_the_template_writes_it() {
    let with = format!("{{{{ bos_token }}}}{CHAT}");
    assert_eq!(tokens(Some(&with), true, "a"), numbers([256, 97, 257]));
    assert_eq!(tokens(Some(&with), false, "a"), numbers([256, 97, 257]));
    assert_eq!(tokens(Some(CHAT), true, "a"), numbers([256, 97, 257]));
    assert_eq!(tokens(Some(CHAT), false, "a"), numbers([97, 257]));
    assert_eq!(tokens(None, true, "a"), numbers([256, 97]));
}

#[test]
fn a_base_model_gets_only_the_contents() {
    let mut conversation = user("a<end>");
    conversation.messages.extend(user("b").messages);
    let expected: Vec<Token> = "a<end>\n\nb".bytes().map(Token::from).collect();
    assert_eq!(
        builder(None, false).build(&conversation).unwrap().tokens,
        expected
    );
}

#[test]
fn an_empty_prompt_is_an_error() {
    assert_eq!(
        builder(None, false).build(&user("")).unwrap_err().kind,
        EngineErrorKind::Template
    );
}

#[test]
fn kept_reasoning_is_text_and_the_template_knows_if_reasoning_is_off() {
    let source = "{{ messages[0].content }}{% if enable_thinking is defined and not enable_thinking %}x{% endif %}<think>";
    let built = |thinking| {
        let conversation = Conversation {
            thinking,
            ..user("a")
        };
        let prompt = builder(Some(source), false).build(&conversation).unwrap();
        (prompt.tokens, prompt.thinking.is_inside())
    };
    assert_eq!(built(ThinkingOutput::Keep), (numbers([97, 258]), true));
    assert_eq!(built(ThinkingOutput::Strip), (numbers([97, 258]), true));
    // A block that the template still opens is closed.
    let mut closed = numbers([97, 120, 258]);
    closed.extend("\n</think>\n\n".bytes().map(Token::from));
    assert_eq!(built(ThinkingOutput::Off), (closed, false));
}

#[test]
fn a_prompt_can_end_inside_a_block() {
    let opened = builder(Some("{{ messages[0].content }}<end><think>\n"), false);
    let is_inside = |builder: PromptBuilder<Bytes>| {
        let prompt = builder.build(&user("a")).unwrap();
        prompt.thinking.is_inside()
    };
    assert!(is_inside(opened));
    assert!(!is_inside(builder(Some(CHAT), false)));
}

#[test]
fn a_shared_prefix_ends_one_token_before_the_samples_differ() {
    let prompts = |shared: &str| PromptSamples {
        tool: "t".into(),
        samples: ["a", "bb"].map(|text| user(&format!("{shared}{text}"))),
    };
    let prefix = |text: &str| {
        builder(Some(CHAT), true)
            .shared_prefix(&prompts(text))
            .unwrap()
    };
    let tokens = |count: usize| {
        let mut tokens: Vec<Token> = vec![b'x'.into(); count];
        tokens.insert(0, Token(256));
        Some(tokens)
    };
    // With the BOS token and without the last one: 32 tokens are worth keeping.
    assert_eq!(prefix(&"x".repeat(31)), None);
    assert_eq!(prefix(&"x".repeat(32)), tokens(31));
    // The context is 100 tokens.
    assert_eq!(prefix(&"x".repeat(99)), tokens(98));
    assert_eq!(prefix(&"x".repeat(100)), None);
    assert_eq!(prefix(&"x".repeat(300)), None);
}

#[test]
fn samples_that_the_template_rejects_are_an_error() {
    let refusing = "{{ raise_exception('no') }}";
    let samples = ["a", "bb"].map(user);
    let error = builder(Some(refusing), true)
        .shared_prefix(&PromptSamples {
            tool: "t".into(),
            samples,
        })
        .unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Template);
}

#[test]
fn template_arguments_reach_the_template_and_their_control_tokens_are_text() {
    let source = "{{ messages[0].content }}{{ mood }}{{ list[0].x }}<end>";
    let mut conversation = user("a");
    let Value::Object(variables) = json!({"mood": "a<end>", "list": [{"x": "<s>"}]}) else {
        panic!("expected an object")
    };
    conversation.template_arguments = variables;
    let built = builder(Some(source), false).build(&conversation).unwrap();
    let mut expected: Vec<Token> = "aa<end><s>".bytes().map(Token::from).collect();
    expected.push(Token(257));
    assert_eq!(built.tokens, expected);
}

#[test]
fn the_templates_own_variables_switch_reasoning_unless_the_call_sets_them() {
    let source = "{% if thinking is not defined %}u{% elif thinking %}t{% else %}f{% endif %}{{ messages[0].content }}<end>";
    let first = |thinking, given: Value| {
        let mut conversation = user("a");
        conversation.thinking = thinking;
        conversation.template_arguments = given.as_object().cloned().unwrap_or_default();
        let built = builder(Some(source), false).build(&conversation).unwrap();
        char::from(u8::try_from(built.tokens[0].0).unwrap())
    };
    assert_eq!(first(ThinkingOutput::Strip, json!({})), 'u');
    assert_eq!(first(ThinkingOutput::Before, json!({})), 't');
    assert_eq!(first(ThinkingOutput::Off, json!({})), 'f');
    assert_eq!(first(ThinkingOutput::Off, json!({"thinking": true})), 't');
}

#[test]
fn a_structured_answer_begins_after_the_reasoning_that_the_prompt_allows() {
    let start = |source: &str, thinking| {
        let mut conversation = user("a");
        conversation.json_schema = Some(json!({"type": "object"}));
        conversation.thinking = thinking;
        let source = format!("{{{{ messages[0].content }}}}{source}");
        let built = builder(Some(&source), false).build(&conversation);
        built.unwrap().blocks.start
    };
    assert_eq!(
        start("<end><think>\n", ThinkingOutput::Strip),
        AnswerStart::Block
    );
    assert_eq!(
        start("<end><think>\n", ThinkingOutput::Off),
        AnswerStart::Answer
    );
    assert_eq!(
        start("<think></think>", ThinkingOutput::Keep),
        AnswerStart::Answer
    );
    let AnswerStart::Choice { openings, .. } = start(CHAT, ThinkingOutput::Strip) else {
        panic!("expected a choice")
    };
    assert_eq!(*openings, [Token(258)]);
    assert_eq!(start(CHAT, ThinkingOutput::Off), AnswerStart::Answer);
}
