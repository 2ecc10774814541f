//! Rows of groups: a tree, by names or paths. A group is known by its name and what it is part of.

use super::columns::Heading;
use super::judge::{Found, Line, Unnamed};
use crate::api::groups::GroupBody;
use crate::base::ids::GroupId;
use crate::port::imports::{GroupParent, ImportPlan, Known, NewGroup, Sheet};
use std::collections::{HashMap, HashSet};

/// Between the names of a path.
const SLASH: char = '/';
/// Names of a path.
const DEPTH_MAX: usize = 64;

struct Node {
    name: String,
    parent: Option<usize>,
    /// None: the file makes it, with this step.
    id: Option<GroupId>,
    step: usize,
}

/// The groups that there are, and those that a file makes.
pub(super) struct Tree {
    nodes: Vec<Node>,
    by_name: HashMap<String, Vec<usize>>,
    by_key: HashMap<(Option<usize>, String), Vec<usize>>,
}

impl Tree {
    pub(super) fn new(groups: &[(GroupId, String, Option<GroupId>)]) -> Self {
        let places: HashMap<GroupId, usize> = groups
            .iter()
            .enumerate()
            .map(|(place, (id, ..))| (*id, place))
            .collect();
        let mut tree = Self {
            nodes: Vec::new(),
            by_name: HashMap::new(),
            by_key: HashMap::new(),
        };
        for (id, name, parent) in groups {
            let parent = parent.and_then(|parent| places.get(&parent).copied());
            tree.add(name, parent, Some(*id), 0);
        }
        tree
    }

    fn add(&mut self, name: &str, parent: Option<usize>, id: Option<GroupId>, step: usize) -> usize {
        let place = self.nodes.len();
        self.by_name.entry(name.to_owned()).or_default().push(place);
        self.by_key.entry((parent, name.to_owned())).or_default().push(place);
        self.nodes.push(Node {
            name: name.to_owned(),
            parent,
            id,
            step,
        });
        place
    }

    /// A group by its name, or by its path where no group has that name.
    fn find(&self, text: &str) -> Result<usize, Unnamed> {
        match self.by_name.get(text).map(Vec::as_slice) {
            Some([one]) => return Ok(*one),
            Some(several) => return Err(Unnamed::Several(several.len())),
            None => {}
        }
        let names: Vec<&str> = text.split(SLASH).map(str::trim).take(DEPTH_MAX).collect();
        let mut parent = None;
        for name in names {
            match self.by_key.get(&(parent, name.to_owned())).map(Vec::as_slice) {
                Some([one]) => parent = Some(*one),
                Some(several) => return Err(Unnamed::Several(several.len())),
                None => return Err(Unnamed::Unknown),
            }
        }
        parent.ok_or(Unnamed::Unknown)
    }

    /// A group that is there already.
    pub(super) fn known(&self, text: &str) -> Result<GroupId, Unnamed> {
        let node = self.find(text)?;
        let id = self.nodes.get(node).and_then(|node| node.id);
        id.ok_or(Unnamed::Unknown)
    }

    /// The path of a group.
    pub(super) fn path(&self, id: GroupId) -> String {
        let mut names = Vec::new();
        let mut place = self.nodes.iter().position(|node| node.id == Some(id));
        while let Some(node) = place.and_then(|place| self.nodes.get(place)) {
            names.push(node.name.as_str());
            place = node.parent.filter(|_| names.len() < DEPTH_MAX);
        }
        names.reverse();
        names.join("/")
    }
}

/// A row whose name is right.
struct Wanted {
    /// Its place in the sheet.
    place: usize,
    name: String,
    parent: Option<String>,
}

pub(super) fn judge(sheet: &Sheet, heading: &Heading, known: &Known, found: &mut Found) -> ImportPlan {
    let mut tree = Tree::new(&known.groups);
    let mut waiting = Vec::new();
    for (place, row) in sheet.rows.iter().enumerate() {
        let mut line = Line::read(heading, row, found);
        line.check_needed();
        if let Some(name) = line.text("name") {
            line.judged(GroupBody::check_name(name));
        }
        if let (true, Some(name)) = (line.is_sound(), line.text("name")) {
            waiting.push(Wanted {
                place,
                name: name.to_owned(),
                parent: line.text("parent").map(str::to_owned),
            });
        }
    }
    let mut plan: Vec<(u32, NewGroup)> = Vec::new();
    let mut faults: Vec<(usize, &'static str, String)> = Vec::new();
    let mut seen = HashSet::new();
    let mut settled = Vec::new();
    // a row may stand before the one that makes its parent: each round settles those whose parents are there
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut later = Vec::new();
        for wanted in waiting {
            let parent = match wanted.parent.as_deref().map(|text| tree.find(text)) {
                None => None,
                Some(Ok(parent)) => Some(parent),
                Some(Err(Unnamed::Unknown)) => {
                    later.push(wanted);
                    continue;
                }
                Some(Err(Unnamed::Several(count))) => {
                    faults.push((wanted.place, "parent", several(count)));
                    continue;
                }
            };
            if !seen.insert((parent, wanted.name.clone())) {
                faults.push((
                    wanted.place,
                    "name",
                    "another row has the same name and parent".to_owned(),
                ));
                continue;
            }
            match tree.by_key.get(&(parent, wanted.name.clone())).map(Vec::len) {
                Some(1) => found.tally.unchanged += 1,
                Some(count) => {
                    let text = format!("{count} groups have this name there; rename one of them first");
                    faults.push((wanted.place, "name", text));
                    continue;
                }
                None => {
                    let above = parent.and_then(|parent| tree.nodes.get(parent));
                    let above = above.map_or(GroupParent::None, |node| {
                        node.id.map_or(GroupParent::Step(node.step), GroupParent::Known)
                    });
                    tree.add(&wanted.name, parent, None, plan.len());
                    let number = sheet.rows.get(wanted.place).map_or(0, |row| row.number);
                    plan.push((
                        number,
                        NewGroup {
                            name: wanted.name.clone(),
                            parent: above,
                        },
                    ));
                    found.tally.made += 1;
                }
            }
            settled.push(wanted);
        }
        waiting = later;
        if waiting.len() == before {
            break;
        }
    }
    let lost = waiting.into_iter().map(|wanted| {
        let text = "there is no such group, neither in this account nor in the file".to_owned();
        (wanted.place, "parent", text)
    });
    faults.extend(lost);
    // a name that was one group's when it was looked up may be several's now; it would not be found again
    for wanted in &settled {
        if let Some(Err(Unnamed::Several(count))) = wanted.parent.as_deref().map(|text| tree.find(text)) {
            faults.push((wanted.place, "parent", several(count)));
        }
    }
    tell(sheet, heading, faults, found);
    ImportPlan::Groups(plan)
}

fn several(count: usize) -> String {
    format!("{count} groups have this name, here or in the file; write the path of the one that is meant")
}

/// Notes faults that were found after their rows were read.
fn tell(sheet: &Sheet, heading: &Heading, faults: Vec<(usize, &'static str, String)>, found: &mut Found) {
    let checked = found.tally.rows_checked;
    for (place, column, problem) in faults {
        if let Some(row) = sheet.rows.get(place) {
            Line::read(heading, row, found).fault(column, problem);
        }
    }
    found.tally.rows_checked = checked;
}
