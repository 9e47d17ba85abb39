//! Samples of one quantity.

/// Samples in the order in which they were taken; never empty when asked.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }
    /// All, in order.
    pub fn values(&self) -> &[f64] {
        &self.0
    }
    /// The median; NaN of nothing.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }
    /// The smallest; NaN of nothing.
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }
    /// The largest; NaN of nothing.
    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }
    /// Sample by sample, `self` through `with`: of interleaved samples, so that both saw the same machine.
    pub fn pairwise(&self, other: &Self, with: impl Fn(f64, f64) -> f64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| with(*a, *b)).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn median_and_spread() {
        let samples = Samples(vec![3.0, 1.0, 2.0, 10.0]);
        assert_eq!((samples.median(), samples.min(), samples.max()), (2.5, 1.0, 10.0));
        assert_eq!(samples.pairwise(&samples, |a, b| a - b).max(), 0.0);
        assert!(Samples::default().median().is_nan());
    }
}
