//! Medians with their spread.

/// Runs of one thing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Runs(Vec<f64>);

impl Runs {
    pub(super) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one; of an even number the mean of the two in the middle. Nothing measured is 0.
    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match (sorted.len() / 2, sorted.len() % 2) {
            (0, 0) => 0.0,
            (middle, 0) => (sorted[middle - 1] + sorted[middle]) / 2.0,
            (middle, _) => sorted[middle],
        }
    }

    /// `median (least to greatest)`.
    pub(super) fn text(&self, digits: usize) -> String {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{:.digits$} ({least:.digits$} to {greatest:.digits$})", self.median())
    }

    /// This median as a share of another.
    pub(super) fn of(&self, other: &Self) -> f64 {
        self.median() / other.median()
    }
}

/// What lies between known points, straight in the logarithm of the size; outside it goes on as between the nearest two.
///
/// Likeness grows about straight with the logarithm of the rate over the few steps of quality that are compared here.
pub(super) fn at_size(points: &[(f64, f64)], size: f64) -> Option<f64> {
    let mut points = points.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let pairs: Vec<_> = points.windows(2).collect();
    let pair = pairs.iter().find(|pair| size <= pair[1].0).or(pairs.last())?;
    let ((from, low), (to, high)) = (pair[0], pair[1]);
    let share = (size.ln() - from.ln()) / (to.ln() - from.ln());
    Some(low + (high - low) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_figure() {
        let runs = |values: &[f64]| Runs(values.to_vec());
        assert_eq!(runs(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(runs(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(runs(&[3.0, 1.0, 2.0]).text(1), "2.0 (1.0 to 3.0)");
        assert_eq!(runs(&[3.0]).of(&runs(&[2.0])), 1.5);
        assert_eq!(Runs::default().median(), 0.0);
    }

    #[test]
    fn likeness_is_read_off_at_another_size() {
        let points = [(100.0, 0.90), (200.0, 0.94), (400.0, 0.96)];
        let near = |size: f64, expected: f64| {
            let found = at_size(&points, size).expect("two points");
            assert!((found - expected).abs() < 1e-9, "{size}: {found}");
        };
        near(100.0, 0.90);
        near(200.0, 0.94);
        near(200.0 * 2f64.sqrt(), 0.95);
        near(800.0, 0.98);
        assert_eq!(at_size(&points[..1], 100.0), None);
    }
}
