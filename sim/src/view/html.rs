//! The page as one file: with a run in it, it shows that without a program behind it.
//!
//! The page is made of a handful of files; here they are put together. Modules share one scope then: what is imported
//! stands before whoever imports it.

use serde::Serialize;

use super::svg::escape;

/// The page without a run.
pub const PAGE: &str = include_str!("page/index.html");
/// Its style, but for the pictures.
pub const STYLE: &str = include_str!("page/page.css");
/// Its modules, in the order in which they need each other.
pub const MODULES: [(&str, &str); 3] = [
    ("picture.js", include_str!("page/picture.js")),
    ("address.js", include_str!("page/address.js")),
    ("main.js", include_str!("page/main.js")),
];

/// Takes out one line of the page, and puts something else into its place.
fn instead(page: &str, line: &str, other: &str) -> String {
    debug_assert_eq!(page.matches(line).count(), 1, "{line}");
    page.replacen(line, other, 1)
}

/// One module without what makes it one.
fn inline(module: &str) -> String {
    let lines = module.lines().filter(|line| !line.starts_with("import "));
    let lines = lines.map(|line| line.strip_prefix("export ").unwrap_or(line));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// A file that shows a run, stepping included.
pub fn file(title: &str, shown: &impl Serialize) -> Result<String, serde_json::Error> {
    // No `<` in the data: it could end the element that it stands in.
    let data = serde_json::to_string(shown)?.replace('<', "\\u003c");
    let script: String = MODULES.iter().map(|(_, text)| inline(text)).collect();
    let style = format!("<style>\n{}{STYLE}</style>", super::svg::STYLE);
    let title = format!("<title>{}</title>", escape(title));
    let page = instead(PAGE, "<title>struct-ops-lab</title>", &title);
    let page = instead(
        &page,
        "<link rel=\"stylesheet\" href=\"picture.css\">\n",
        "",
    );
    let page = instead(&page, "<link rel=\"stylesheet\" href=\"page.css\">", &style);
    let page = instead(
        &page,
        "<script type=\"module\" src=\"main.js\"></script>",
        &format!("<script type=\"module\">\n{script}</script>"),
    );
    Ok(instead(
        &page,
        "<script type=\"application/json\" id=\"data\">null</script>",
        &format!("<script type=\"application/json\" id=\"data\">{data}</script>"),
    ))
}
