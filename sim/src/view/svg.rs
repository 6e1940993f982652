//! Pieces of SVG: text that is escaped, and a whole picture with its style.

/// The style of every picture: the page has it as well.
pub const STYLE: &str = include_str!("page/picture.css");

/// Text as it may stand between tags and in attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // What XML does not allow.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// As many characters as fit; what is cut ends in an ellipsis.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept.trim_end().to_string() + "…"
}

/// A file of its own.
pub fn standalone(width: u32, height: u32, label: &str, body: &str) -> String {
    let label = escape(label);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{label}\" class=\"picture\"><title>{label}</title>\
         <style>{STYLE}</style><rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>{body}</svg>\n"
    )
}
