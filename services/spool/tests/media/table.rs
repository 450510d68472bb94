//! The table of a run: one row a file, and every broken rule below it.

use crate::judge::Figures;

/// What became of one file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) end: String,
    pub(crate) code: String,
    pub(crate) figures: Option<Figures>,
    /// From the last byte to the end.
    pub(crate) took_ms: u64,
    pub(crate) broken: Vec<String>,
}

/// The rows as text.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<44} {:<9} {:<22} {:<32} {:>14} {:>8} {:>8} {:>15} {:>7}\n",
        "file", "end", "code", "renditions", "frames src/out", "len ms", "sync ms", "SSIM mean/worst", "ms"
    );
    for row in rows {
        let label: String = row.label.chars().take(44).collect();
        let Row { end, code, took_ms, .. } = row;
        let cells = row.figures.as_ref().map(cells).unwrap_or_default();
        let [renditions, frames, length, sync, likeness] = &cells;
        out.push_str(&format!(
            "{label:<44} {end:<9} {code:<22} {renditions:<32} {frames:>14} {length:>8} {sync:>8} {likeness:>15} {took_ms:>7}\n"
        ));
    }
    let broken: Vec<String> =
        rows.iter().flat_map(|row| row.broken.iter().map(|rule| format!("  {}: {rule}", row.label))).collect();
    out.push_str(&format!("{} files, {} broken rules\n{}", rows.len(), broken.len(), broken.join("\n")));
    out
}

fn cells(figures: &Figures) -> [String; 5] {
    let Figures { decoded, owed, found, repeats, .. } = figures;
    let frames = match (owed == found, repeats) {
        (true, 0) => format!("{decoded}/{found}"),
        (true, repeats) => format!("{decoded}+{repeats}/{found}"),
        (false, _) => format!("{decoded}({owed})!{found}"),
    };
    let likeness = figures.likeness.map(|l| format!("{:.4}/{:.4}", l.mean, l.worst));
    [
        figures.renditions.join(" "),
        frames,
        format!("{:.1}", figures.length_off_s * 1000.0),
        figures.sync_off_s.map_or(String::new(), |s| format!("{:.1}", s * 1000.0)),
        likeness.unwrap_or_default(),
    ]
}
