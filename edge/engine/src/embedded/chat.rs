//! The chat template in a GGUF file, rendered as Hugging Face's `apply_chat_template` does.
//!
//! Templates are Jinja written against Python's, so a few methods of Python's strings and mappings
//! are added; one that is not is an error, never a silently different prompt.

use minijinja::{
    Environment, Error, ErrorKind, State, Value, context, syntax::SyntaxConfig, value::ValueKind,
};
use types::{Hash32, hash::sha256, inference::ChatMessage};

use super::gguf::{LoadError, first_line};

/// For a model without a template of its own. As a template, so that the model's id covers it.
const PLAIN: &str = "{% for message in messages %}{{ message.role | capitalize }}: \
    {{ message.content }}\n{% endfor %}Assistant:";

/// How a chat becomes a prompt.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("digest", &self.digest()).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// `bos` and `eos` are the texts of the vocabulary's first and last token.
    pub(super) fn new(
        source: Option<&str>,
        bos: String,
        eos: String,
    ) -> Result<ChatTemplate, LoadError> {
        let source = source.unwrap_or(PLAIN).to_owned();
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .map_err(invalid)?,
        );
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.set_unknown_method_callback(python_method);
        environment.template_from_str(&source).map_err(invalid)?;
        Ok(ChatTemplate { environment, source, bos, eos })
    }

    /// The digest of the template's text.
    pub(super) fn digest(&self) -> Hash32 {
        sha256(&[self.source.as_bytes()])
    }

    /// The prompt after which the model answers as the assistant.
    pub(super) fn render(&self, messages: &[ChatMessage]) -> Result<String, Error> {
        let message = |message: &ChatMessage| {
            context! { role => message.role.as_str(), content => message.content.as_str() }
        };
        let messages: Vec<Value> = messages.iter().map(message).collect();
        self.environment.render_str(
            &self.source,
            context! {
                messages => messages,
                add_generation_prompt => true,
                bos_token => self.bos.as_str(),
                eos_token => self.eos.as_str(),
                tools => (),
                documents => (),
            },
        )
    }
}

fn invalid(error: Error) -> LoadError {
    LoadError::Template { reason: first_line(&error.to_string()) }
}

/// Methods of Python's `str` and `dict` that published templates call.
fn python_method(
    _: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let unknown = || {
        let message = format!("the template calls `{method}`, which is not supported here");
        Error::new(ErrorKind::UnknownMethod, message)
    };
    let arg = |index: usize| args.get(index).and_then(Value::as_str);
    if value.kind() == ValueKind::Map && method == "get" {
        let found = args.first().map(|key| value.get_item(key)).transpose()?;
        let default = args.get(1).cloned().unwrap_or(Value::from(()));
        return Ok(found.filter(|found| !found.is_undefined()).unwrap_or(default));
    }
    let Some(text) = value.as_str() else { return Err(unknown()) };
    let is_trimmed = |c: char| match arg(0) {
        Some(chars) => chars.contains(c),
        None => c.is_whitespace(),
    };
    Ok(match method {
        "strip" => text.trim_matches(is_trimmed).into(),
        "lstrip" => text.trim_start_matches(is_trimmed).into(),
        "rstrip" => text.trim_end_matches(is_trimmed).into(),
        "upper" => text.to_uppercase().into(),
        "lower" => text.to_lowercase().into(),
        "startswith" => text.starts_with(arg(0).ok_or_else(unknown)?).into(),
        "endswith" => text.ends_with(arg(0).ok_or_else(unknown)?).into(),
        "replace" => text.replace(arg(0).ok_or_else(unknown)?, arg(1).ok_or_else(unknown)?).into(),
        "split" => match arg(0) {
            Some(separator) => text.split(separator).map(Value::from).collect(),
            None => text.split_whitespace().map(Value::from).collect(),
        },
        _ => return Err(unknown()),
    })
}

#[cfg(test)]
mod tests {
    use types::inference::Role;

    use super::*;

    fn chat() -> Vec<ChatMessage> {
        let message = |role, content: &str| ChatMessage::text(role, content.to_owned());
        vec![
            message(Role::System, " Be kind. "),
            message(Role::User, "Hello"),
            message(Role::Assistant, "Hi<think>x</think>there"),
            message(Role::User, "Bye"),
        ]
    }

    fn check(template: Option<&str>, expected: Result<&str, &str>) {
        let template = ChatTemplate::new(template, "<s>".into(), "</s>".into()).unwrap();
        let got = template.render(&chat()).map_err(|error| error.to_string());
        match (&got, expected) {
            (Ok(text), Ok(expected)) => assert_eq!(text, expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            _ => panic!("{got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn blocks_are_trimmed_as_hugging_face_does() {
        let template = "{{ bos_token }}\n{% for m in messages %}\n    {% if m['role'] == 'user' %}\n[{{ m.content }}]\n    {% endif %}\n{% endfor %}\nend";
        check(Some(template), Ok("<s>\n[Hello]\n[Bye]\nend"));
    }

    #[test]
    fn methods_of_python_work() {
        check(Some("{{ messages[0].content.strip() }}"), Ok("Be kind."));
        check(Some("{{ messages[2].content.split('</think>')[-1] }}"), Ok("there"));
        check(Some("{{ messages[0].get('name', 'none') }}"), Ok("none"));
        check(Some("{{ messages[1].content.startswith('He') }}"), Ok("True"));
        check(Some("{% if tools is not none %}tools{% endif %}!"), Ok("!"));
        check(Some("{{ messages[1].content.frobnicate() }}"), Err("frobnicate"));
    }

    #[test]
    fn a_template_can_refuse_a_chat() {
        check(Some("{{ raise_exception('roles must alternate') }}"), Err("roles must alternate"));
    }

    #[test]
    fn a_model_without_a_template_gets_a_plain_one() {
        check(
            None,
            Ok(
                "System:  Be kind. \nUser: Hello\nAssistant: Hi<think>x</think>there\nUser: Bye\nAssistant:",
            ),
        );
    }

    #[test]
    fn a_broken_template_is_found_when_the_model_is_loaded() {
        let error = ChatTemplate::new(Some("{% for %}"), String::new(), String::new()).unwrap_err();
        assert!(error.to_string().starts_with("its chat template is not valid: "), "{error}");
    }
}
