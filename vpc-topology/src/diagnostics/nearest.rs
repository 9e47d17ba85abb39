//! "Did you mean …?"

/// The candidate that looks most like `wrong`, if one is near enough that a slip of the pen explains the difference.
pub(crate) fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let room = (wrong.chars().count() / 3).clamp(1, 3);
    let similar = candidates.into_iter().filter(|candidate| candidate.len().abs_diff(wrong.len()) <= room);
    // The name decides between candidates of one distance, so that the hint does not depend on their order.
    let (distance, name) =
        similar.map(|candidate| (strsim::osa_distance(wrong, candidate), candidate)).min().filter(|(d, _)| *d > 0)?;
    (distance <= room).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_only() {
        let names = ["subnet", "subnets", "device", "private_ips"];
        assert_eq!(nearest("subent", names), Some("subnet"));
        assert_eq!(nearest("privat_ips", names), Some("private_ips"));
        assert_eq!(nearest("name", names), None);
        assert_eq!(nearest("x", ["y"]), Some("y"));
    }
}
