//! The match of a flavor: the same specs, or as close as possible.
//!
//! Invariant: a pure function. The order in which flavors are listed changes nothing; nothing falls short by more than the
//! pillar allows; every flavor that was not taken has its reason.

use super::{Flavor, Image};
use crate::settings::Wanted;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Extra specs that tie a flavor to hardware that only some servers want.
const SPECIAL: [&str; 5] = ["resources:", "trait:", "pci_passthrough:", "accel:", "aggregate_instance_extra_specs:"];

/// What a server needs of its flavor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Need {
    pub vcpus: u32,
    /// MiB.
    pub ram: u64,
    /// GiB; nothing asks for nothing.
    pub disk: u64,
    /// What the image refuses to boot below.
    pub min_ram: u64,
    pub min_disk: u64,
    pub extra_specs: BTreeMap<String, String>,
    /// Percent.
    pub allow_smaller: u8,
    /// The flavor that the pillar names.
    pub pinned: Option<String>,
}

impl Need {
    /// Puts together what a server wants and what its image demands.
    pub fn new(wanted: &Wanted, allow_smaller: u8, image: Option<&Image>) -> Self {
        Self {
            vcpus: wanted.vcpus,
            ram: wanted.ram,
            disk: wanted.disk,
            min_ram: image.map_or(0, |image| image.min_ram),
            min_disk: image.map_or(0, |image| image.min_disk),
            extra_specs: wanted.extra_specs.clone(),
            allow_smaller,
            pinned: wanted.flavor.clone(),
        }
    }
}

/// A flavor that would do, and how well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub flavor: String,
    /// The sum of |log2(has / needs)| over vCPU, RAM and disk: 0 is exact, 1 is one of them doubled or halved.
    pub distance: f64,
    /// In words, what is more, and what is less.
    pub why: String,
    /// Whether anything is less than wanted.
    pub short: bool,
}

/// A flavor that would not do, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NearMiss {
    pub flavor: String,
    pub why: String,
}

/// What came of the match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Match {
    /// The best three, the best first; only the pinned one where the pillar names one; none where nothing would do.
    pub best: Vec<Candidate>,
    pub near_misses: Vec<NearMiss>,
    /// Whether the pillar named it.
    pub pinned: bool,
}

impl Match {
    /// Returns the flavor that is taken.
    pub fn chosen(&self) -> Option<&Candidate> {
        self.best.first()
    }

    /// Says in one line why nothing would do.
    pub fn misses(&self) -> String {
        let misses: Vec<String> =
            self.near_misses.iter().map(|miss| format!("{}: {}", miss.flavor, miss.why)).collect();
        if misses.is_empty() { "the project sees no flavor".into() } else { misses.join("; ") }
    }
}

/// Finds the flavor for a need.
pub fn matched(need: &Need, flavors: &[Flavor]) -> Match {
    let (mut fit, mut near_misses) = (Vec::new(), Vec::new());
    for flavor in flavors {
        let pinned = need.pinned.as_ref() == Some(&flavor.name);
        let miss = |why: String| NearMiss { flavor: flavor.name.clone(), why };
        if need.pinned.is_some() && !pinned {
            continue;
        }
        // The operator's word overrules the size, not what the image refuses.
        let why = image_refuses(need, flavor).or_else(|| if pinned { None } else { unfit(need, flavor) });
        match why {
            Some(why) => near_misses.push(miss(why)),
            None => fit.push((flavor, candidate(need, flavor))),
        }
    }
    if let Some(name) = need.pinned.as_ref().filter(|_| fit.is_empty() && near_misses.is_empty()) {
        near_misses.push(NearMiss { flavor: name.clone(), why: "the project sees no such flavor".into() });
    }
    fit.sort_by(better);
    near_misses.sort_by(|one, other| one.flavor.cmp(&other.flavor).then_with(|| one.why.cmp(&other.why)));
    Match {
        best: fit.into_iter().take(3).map(|(_, candidate)| candidate).collect(),
        near_misses,
        pinned: need.pinned.is_some(),
    }
}

fn better(one: &(&Flavor, Candidate), other: &(&Flavor, Candidate)) -> Ordering {
    // What differs by rounding alone is equal.
    #[allow(clippy::cast_possible_truncation)]
    let rounded = |candidate: &Candidate| (candidate.distance * 1e9).round() as i64;
    rounded(&one.1)
        .cmp(&rounded(&other.1))
        .then_with(|| one.1.short.cmp(&other.1.short))
        .then_with(|| one.0.name.cmp(&other.0.name))
        .then_with(|| one.0.id.cmp(&other.0.id))
}

fn image_refuses(need: &Need, flavor: &Flavor) -> Option<String> {
    if flavor.ram < need.min_ram {
        return Some(format!("its image needs {} MiB RAM, and it has {}", need.min_ram, flavor.ram));
    }
    if flavor.disk < need.min_disk {
        return Some(format!("its image needs {} GiB disk, and it has {}", need.min_disk, flavor.disk));
    }
    None
}

fn unfit(need: &Need, flavor: &Flavor) -> Option<String> {
    for (key, value) in &need.extra_specs {
        match flavor.extra_specs.get(key) {
            Some(found) if found == value => {}
            Some(found) => return Some(format!("its {key} is {found}, not {value}")),
            None => return Some(format!("it has no {key}={value}")),
        }
    }
    let special = |key: &&String| SPECIAL.iter().any(|prefix| key.starts_with(prefix));
    if let Some(key) = flavor.extra_specs.keys().filter(special).find(|key| !need.extra_specs.contains_key(*key)) {
        return Some(format!("it is for servers that want {key}={}", flavor.extra_specs[key]));
    }
    axes(need, flavor).into_iter().find(|axis| !axis.allowed(need.allow_smaller)).map(|axis| {
        let allowed = match need.allow_smaller {
            0 => "nothing smaller is allowed".to_owned(),
            percent => format!("{percent} % less is allowed"),
        };
        format!("its {} is {} of {}, and {allowed}", axis.name, axis.has, axis.needs)
    })
}

struct Axis {
    name: &'static str,
    needs: u64,
    has: u64,
}

impl Axis {
    fn allowed(&self, smaller: u8) -> bool {
        u128::from(self.has) * 100 >= u128::from(self.needs) * u128::from(100 - smaller.min(100))
    }

    #[allow(clippy::cast_precision_loss)] // sizes of machines
    fn distance(&self) -> f64 {
        if self.has == 0 { f64::from(u16::MAX) } else { (self.has as f64 / self.needs as f64).log2().abs() }
    }
}

/// The axes that are asked for; a disk that nobody asked for is none.
fn axes(need: &Need, flavor: &Flavor) -> Vec<Axis> {
    [
        Axis { name: "vCPU", needs: u64::from(need.vcpus), has: u64::from(flavor.vcpus) },
        Axis { name: "RAM (MiB)", needs: need.ram, has: flavor.ram },
        Axis { name: "disk (GiB)", needs: need.disk, has: flavor.disk },
    ]
    .into_iter()
    .filter(|axis| axis.needs > 0)
    .collect()
}

fn candidate(need: &Need, flavor: &Flavor) -> Candidate {
    let axes = axes(need, flavor);
    let why: Vec<String> = axes
        .iter()
        .filter(|axis| axis.has != axis.needs)
        .map(|axis| {
            let word = if axis.has > axis.needs { "more" } else { "LESS" };
            format!("{} {} for {} ({word})", axis.name, axis.has, axis.needs)
        })
        .collect();
    Candidate {
        flavor: flavor.name.clone(),
        distance: axes.iter().map(Axis::distance).sum(),
        why: if why.is_empty() { "exactly what is wanted".into() } else { why.join(", ") },
        short: axes.iter().any(|axis| axis.has < axis.needs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flavor(name: &str, vcpus: u32, ram: u64, disk: u64) -> Flavor {
        Flavor { id: format!("id-{name}"), name: name.into(), vcpus, ram, disk, extra_specs: BTreeMap::new() }
    }

    fn need(vcpus: u32, ram: u64, disk: u64) -> Need {
        Need { vcpus, ram, disk, ..Need::default() }
    }

    fn chosen(need: &Need, flavors: &[Flavor]) -> Option<String> {
        matched(need, flavors).chosen().map(|candidate| candidate.flavor.clone())
    }

    /// Numbers that look like chance, the same in every run.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }

        fn of(&mut self, sizes: &[u64]) -> u64 {
            sizes[usize::try_from(self.below(sizes.len() as u64)).unwrap()]
        }

        fn flavor(&mut self, number: u64) -> Flavor {
            let vcpus = u32::try_from(self.of(&[1, 2, 3, 4, 6, 8])).unwrap();
            let ram = self.of(&[512, 1000, 1024, 2048, 3072, 4096, 8192]);
            let disk = self.of(&[0, 5, 10, 20, 40, 80]);
            let mut flavor = flavor(&format!("f{number}"), vcpus, ram, disk);
            for (key, value) in [("hw:cpu_policy", "dedicated"), ("resources:VGPU", "1")] {
                if self.below(6) == 0 {
                    flavor.extra_specs.insert(key.into(), value.into());
                }
            }
            flavor
        }

        fn need(&mut self) -> Need {
            let mut need = Need {
                vcpus: u32::try_from(self.of(&[1, 2, 4, 6])).unwrap(),
                ram: self.of(&[512, 1024, 2000, 4096]),
                disk: self.of(&[0, 10, 20, 40]),
                min_ram: self.of(&[0, 0, 1024]),
                min_disk: self.of(&[0, 0, 10]),
                allow_smaller: u8::try_from(self.of(&[0, 0, 10, 50])).unwrap(),
                ..Need::default()
            };
            if self.below(6) == 0 {
                need.extra_specs.insert("hw:cpu_policy".into(), "dedicated".into());
            }
            need
        }
    }

    /// The same question, answered in another way: exact fractions instead of logarithms, rules read one by one.
    fn oracle(need: &Need, flavors: &[Flavor]) -> Vec<(u128, u128, String)> {
        let mut fit: Vec<(u128, u128, String)> = Vec::new();
        'flavors: for flavor in flavors {
            if flavor.ram < need.min_ram || flavor.disk < need.min_disk {
                continue;
            }
            if need.extra_specs.iter().any(|(key, value)| flavor.extra_specs.get(key) != Some(value)) {
                continue;
            }
            if flavor.extra_specs.contains_key("resources:VGPU") {
                continue;
            }
            let (mut above, mut below) = (1u128, 1u128);
            for (needs, has) in
                [(u64::from(need.vcpus), u64::from(flavor.vcpus)), (need.ram, flavor.ram), (need.disk, flavor.disk)]
            {
                if needs == 0 {
                    continue;
                }
                let least = (u128::from(needs) * u128::from(100 - need.allow_smaller)).div_ceil(100);
                if u128::from(has) < least {
                    continue 'flavors;
                }
                above *= u128::from(needs.max(has));
                below *= u128::from(needs.min(has));
            }
            fit.push((above, below, flavor.name.clone()));
        }
        fit
    }

    #[test]
    fn in_twenty_thousand_clouds_nothing_is_closer_than_what_was_chosen() {
        let mut chance = Chance(20_261_125);
        for _ in 0..20_000 {
            let count = chance.below(12);
            let flavors: Vec<Flavor> = (0..count).map(|number| chance.flavor(number)).collect();
            let need = chance.need();
            let found = matched(&need, &flavors);
            let oracle = oracle(&need, &flavors);
            assert_eq!(found.near_misses.len() + oracle.len(), flavors.len(), "every flavor is accounted for");
            let Some(best) = found.chosen() else {
                assert!(oracle.is_empty(), "{need:?} {flavors:?}");
                continue;
            };
            let mine = oracle.iter().find(|(_, _, name)| *name == best.flavor).expect("it would do");
            for other in &oracle {
                assert!(mine.0 * other.1 <= other.0 * mine.1, "{} is closer: {need:?} {flavors:?}", other.2);
            }
            assert!(need.allow_smaller > 0 || !best.short, "never smaller unless allowed");
            assert!(found.best.windows(2).all(|pair| pair[0].distance <= pair[1].distance + 1e-9));
        }
    }

    #[test]
    fn the_order_of_the_list_changes_nothing() {
        let mut chance = Chance(7);
        for _ in 0..2_000 {
            let mut flavors: Vec<Flavor> = (0..8).map(|number| chance.flavor(number)).collect();
            let need = chance.need();
            let first = matched(&need, &flavors);
            for at in (1..flavors.len()).rev() {
                let with = usize::try_from(chance.below(at as u64 + 1)).unwrap();
                flavors.swap(at, with);
            }
            assert_eq!(matched(&need, &flavors), first);
        }
    }

    #[test]
    fn one_flavor_more_never_makes_it_worse() {
        let mut chance = Chance(99);
        for _ in 0..2_000 {
            let mut flavors: Vec<Flavor> = (0..6).map(|number| chance.flavor(number)).collect();
            let need = chance.need();
            let before = matched(&need, &flavors).chosen().map(|candidate| candidate.distance);
            flavors.push(chance.flavor(6));
            let after = matched(&need, &flavors).chosen().map(|candidate| candidate.distance);
            if let Some(before) = before {
                assert!(after.is_some_and(|after| after <= before + 1e-9));
            }
        }
    }

    #[test]
    fn an_exact_one_wins_and_a_tie_goes_to_the_name() {
        let flavors = [flavor("b", 4, 8192, 80), flavor("a", 4, 8192, 80), flavor("c", 4, 8192, 81)];
        assert_eq!(chosen(&need(4, 8192, 80), &flavors).as_deref(), Some("a"));
    }

    #[test]
    fn not_the_fewest_vcpus_but_the_nearest_whole() {
        // Tools that go by vCPU first take 64 GiB for 8.
        let flavors = [flavor("fat", 4, 65_536, 80), flavor("near", 5, 8192, 80)];
        assert_eq!(chosen(&need(4, 8192, 80), &flavors).as_deref(), Some("near"));
    }

    #[test]
    fn a_shortfall_is_taken_only_where_allowed_and_then_said() {
        let flavors = [flavor("small", 4, 7680, 80), flavor("large", 4, 16_384, 80)];
        assert_eq!(chosen(&need(4, 8192, 80), &flavors).as_deref(), Some("large"));
        let generous = Need { allow_smaller: 10, ..need(4, 8192, 80) };
        let found = matched(&generous, &flavors);
        assert_eq!(found.best[0].flavor, "small");
        assert!(found.best[0].short && found.best[0].why.contains("LESS"), "{found:?}");
    }

    #[test]
    fn what_the_image_refuses_is_refused_even_where_the_pillar_names_it() {
        let flavors = [flavor("tiny", 1, 512, 5), flavor("other", 8, 8192, 80)];
        let pinned = Need { pinned: Some("tiny".into()), min_disk: 10, ..need(1, 512, 5) };
        let found = matched(&pinned, &flavors);
        assert_eq!(found.chosen(), None);
        assert!(found.misses().contains("tiny: its image needs 10 GiB disk"), "{}", found.misses());
    }

    #[test]
    fn the_pillar_overrules_the_size() {
        let flavors = [flavor("exact", 4, 8192, 80), flavor("tiny", 1, 512, 5)];
        let pinned = Need { pinned: Some("tiny".into()), ..need(4, 8192, 80) };
        let found = matched(&pinned, &flavors);
        assert_eq!(found.best.len(), 1);
        assert!(found.pinned && found.best[0].flavor == "tiny" && found.best[0].short);
        let unknown = Need { pinned: Some("gone".into()), ..need(4, 8192, 80) };
        assert!(matched(&unknown, &flavors).misses().contains("no such flavor"));
    }

    #[test]
    fn hardware_that_nobody_asked_for_is_left_to_others() {
        let mut gpu = flavor("gpu", 4, 8192, 80);
        gpu.extra_specs.insert("resources:VGPU".into(), "1".into());
        let flavors = [gpu, flavor("plain", 8, 16_384, 80)];
        assert_eq!(chosen(&need(4, 8192, 80), &flavors).as_deref(), Some("plain"));
        let mut asked = need(4, 8192, 80);
        asked.extra_specs.insert("resources:VGPU".into(), "1".into());
        assert_eq!(chosen(&asked, &flavors).as_deref(), Some("gpu"));
    }
}
