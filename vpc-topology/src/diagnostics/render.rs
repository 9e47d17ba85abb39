//! Problems as text, by annotate-snippets.

use super::{Problem, Span};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, renderer::DecorStyle};

/// How problems are rendered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// Text only.
    Plain,
    /// With ANSI colours.
    Coloured,
}

/// Lines that two annotations may be apart to share one snippet; what lies between is shown.
const SHARED_SNIPPET: usize = 4;

pub(super) fn render(name: &str, text: &str, problems: &[Problem], style: Style) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    }
    .decor_style(DecorStyle::Ascii);
    let lines = Lines::new(text);
    let mut out = String::new();
    for problem in problems {
        out.push_str(&one(&renderer, name, text, &lines, problem));
        out.push_str("\n\n");
    }
    let summary = match problems.len() {
        1 => format!("{name}: 1 problem"),
        n => format!("{name}: {n} problems"),
    };
    out.push_str(&renderer.render(&[annotate_snippets::Group::with_title(Level::ERROR.primary_title(summary))]));
    out.push('\n');
    out
}

/// Offsets of the line starts.
struct Lines(Vec<u32>);

impl Lines {
    fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(ends.map(|(at, _)| at as u32 + 1)).collect())
    }

    /// Number of the line, from 0, that an offset lies in.
    fn line(&self, offset: u32) -> usize {
        self.0.partition_point(|start| *start <= offset) - 1
    }

    /// Bytes of the lines `first..=last`.
    fn bytes(&self, first: usize, last: usize, text: &str) -> std::ops::Range<usize> {
        self.0[first] as usize..self.0.get(last + 1).map_or(text.len(), |next| *next as usize)
    }
}

/// A place that is pointed at: one line's worth of a span.
struct Mark<'a> {
    span: Span,
    line: usize,
    label: &'a str,
    kind: AnnotationKind,
}

fn one(renderer: &Renderer, name: &str, text: &str, lines: &Lines, problem: &Problem) -> String {
    let mut marks = vec![mark(text, lines, problem.span, &problem.label, AnnotationKind::Primary)];
    marks.extend(problem.related.iter().map(|(span, label)| mark(text, lines, *span, label, AnnotationKind::Context)));

    let mut group = annotate_snippets::Group::with_title(Level::ERROR.primary_title(problem.message.as_str()));
    // Only the lines around a mark are handed over: a file of a million ports is not searched once per problem.
    while !marks.is_empty() {
        let mut first = marks[0].line;
        let mut last = first;
        let mut together = vec![marks.remove(0)];
        while let Some(at) =
            marks.iter().position(|m| m.line + SHARED_SNIPPET >= first && m.line <= last + SHARED_SNIPPET)
        {
            let near = marks.remove(at);
            (first, last) = (first.min(near.line), last.max(near.line));
            together.push(near);
        }
        let bytes = lines.bytes(first, last, text);
        let mut snippet = Snippet::source(&text[bytes.clone()]).line_start(first + 1).path(name);
        for m in together {
            let range = m.span.start as usize - bytes.start..m.span.end as usize - bytes.start;
            let annotation = m.kind.span(range);
            snippet = snippet.annotation(if m.label.is_empty() { annotation } else { annotation.label(m.label) });
        }
        group = group.element(snippet);
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

fn mark<'a>(text: &str, lines: &Lines, span: Span, label: &'a str, kind: AnnotationKind) -> Mark<'a> {
    let start = text.floor_char_boundary(span.start as usize);
    let line = lines.line(start as u32);
    let bytes = lines.bytes(line, line, text);
    let line_end = bytes.start + text[bytes.clone()].trim_end_matches(['\n', '\r']).len();
    let end = text.ceil_char_boundary((span.end as usize).clamp(start, line_end.max(start)));
    Mark { span: Span { start: start as u32, end: end as u32 }, line, label, kind }
}
