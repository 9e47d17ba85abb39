//! The session table, whose layout and rules are those of [`vpc_common::session_table`].
//!
//! A bucket is searched without a branch for each place: mispredicted ones would cost more than the comparisons, and the
//! verifier would follow each of them to the end of the program.

use crate::{atomic, maps, opaque::opaque, tables::lookup};
use core::{
    ptr::{from_ref, null_mut, read_volatile},
    slice,
};
use vpc_common::{
    session::{Session, SessionKey},
    session_table::{BucketV4, BucketV6, HEAD, Header, PLACES, place},
};
use vpc_datapath::family::Address;

/// The first word of the key of a place that is being filled.
const CLAIMED: u64 = (place::CLAIMED as u64) << 24;
/// So many free places are enough to take one of them without a look at the other bucket's.
const ENOUGH: usize = 4;

/// The session of a key, or null. Where there is none the memory is touched in which one would be made, so that it is on
/// its way while the packet is judged. A function of its own for the sake of the stack, as is [`insert`].
#[inline(never)]
pub fn find<A: Address>(key: &SessionKey<A>) -> *mut Session {
    let Some(sought) = Sought::new(key) else { return null_mut() };
    let [first, second] = &sought.elements;
    let Some(bucket) = element_at::<A>(first) else { return null_mut() };
    let found = find_in(bucket, &sought, key);
    if !found.is_null() {
        return found;
    }
    let place = free(bucket);
    if place < PLACES {
        // SAFETY: a word of the map's value.
        unsafe { read_volatile(session(bucket, place).cast::<u64>()) };
    }
    let Some(bucket) = element_at::<A>(second) else { return null_mut() };
    find_in(bucket, &sought, key)
}

/// Makes a session. False: both of its buckets are full. Of two CPUs that open one flow in the same moment both may make one;
/// the one that is found second never sees a packet, and expires.
#[inline(never)]
pub fn insert<A: Address>(key: &SessionKey<A>, fresh: &Session) -> bool {
    let Some(sought) = Sought::new(key) else { return false };
    let [first, second] = &sought.elements;
    let (Some(one), Some(other)) = (element_at::<A>(first), element_at::<A>(second)) else { return false };
    let vacancies = vacancies(one);
    let order =
        if vacancies >= ENOUGH || vacancies >= self::vacancies(other) { [first, second] } else { [second, first] };
    for element in order {
        let Some(bucket) = element_at::<A>(element) else { return false };
        let place = free(bucket);
        if place < PLACES && put(bucket, place, key, &sought, fresh) {
            return true;
        }
    }
    false
}

#[inline(always)]
fn put<A: Address>(bucket: *mut BucketV4, place: usize, key: &SessionKey<A>, sought: &Sought, fresh: &Session) -> bool {
    let [first, second] = [head(bucket, place, 0), head(bucket, place, 1)];
    // SAFETY: words of the map's value, inside the element; whoever has claimed a place is the only one who writes there.
    unsafe {
        if !atomic::claim(first, CLAIMED) {
            return false;
        }
        *session(bucket, place) = *fresh;
        *second = sought.head[1];
        for (index, value) in tail_of(key).iter().enumerate() {
            *tail(bucket, place, index) = *value;
        }
        atomic::publish(first, sought.head[0]);
    }
    true
}

/// What a key is found by.
struct Sought {
    head: [u64; HEAD],
    elements: [u32; 2],
}

impl Sought {
    #[inline(always)]
    fn new<A: Address>(key: &SessionKey<A>) -> Option<Self> {
        // Not the address of a constant: see `.rodata` in ARCHITECTURE.md, "A `match` becomes no table".
        let mut elements = [opaque(0) as u32; 2];
        // SAFETY: what the first element begins with, which does not change any more.
        let header = unsafe { &*element_at::<A>(&elements[0])?.cast::<Header>() };
        let words = words(key);
        let hash = header.hash(words);
        elements = header.places(hash);
        let head = [words[0], if words.len() == HEAD { words[1] } else { hash }];
        Some(Self { head, elements })
    }
}

/// An element; what it has beyond a bucket of IPv4 is its tails. The index is where the caller keeps it: each copy would
/// take a place of the stack.
#[inline(always)]
fn element_at<A: Address>(index: &u32) -> Option<*mut BucketV4> {
    // SAFETY: arrays, whose elements are those buckets.
    unsafe {
        if size_of::<A>() == 4 {
            lookup(&maps::SESSIONS_V4, index)
        } else {
            lookup::<_, _, BucketV6>(&maps::SESSIONS_V6, index).map(|bucket| bucket.cast())
        }
    }
}

#[inline(always)]
fn words<A: Address>(key: &SessionKey<A>) -> &[u64] {
    // SAFETY: keys are whole words without padding, and aligned as such.
    unsafe { slice::from_raw_parts(from_ref(key).cast(), size_of::<SessionKey<A>>() / size_of::<u64>()) }
}

/// The words of a key that its head does not have.
#[inline(always)]
fn tail_of<A: Address>(key: &SessionKey<A>) -> &[u64] {
    let words = words(key);
    if words.len() == HEAD { &[] } else { &words[1..] }
}

#[inline(always)]
fn find_in<A: Address>(bucket: *mut BucketV4, sought: &Sought, key: &SessionKey<A>) -> *mut Session {
    let place = matching(bucket, sought);
    if place < PLACES && is_whole(bucket, place, key) { session(bucket, place) } else { null_mut() }
}

/// The place with that head; [`PLACES`] if none has it.
#[inline(always)]
fn matching(bucket: *mut BucketV4, sought: &Sought) -> usize {
    count_leading(|place| {
        // SAFETY: words of the map's value.
        let [first, second] = unsafe { [read_volatile(head(bucket, place, 0)), read_volatile(head(bucket, place, 1))] };
        is_set((first ^ sought.head[0]) | (second ^ sought.head[1]))
    })
}

/// Whether a place whose head agrees has the rest of the key too.
#[inline(always)]
fn is_whole<A: Address>(bucket: *mut BucketV4, place: usize, key: &SessionKey<A>) -> bool {
    let mut difference = 0;
    for (index, value) in tail_of(key).iter().enumerate() {
        // SAFETY: words of the key and of the map's value. The key's too are read each time: kept in registers since it was
        // hashed, they would take more of these than there are, and then of the stack.
        difference |= unsafe { read_volatile(value) ^ read_volatile(tail(bucket, place, index)) };
    }
    difference == 0
}

/// The first free place; [`PLACES`] if there is none.
#[inline(always)]
fn free(bucket: *mut BucketV4) -> usize {
    count_leading(|place| is_taken(bucket, place))
}

/// How many places are free.
#[inline(always)]
fn vacancies(bucket: *mut BucketV4) -> usize {
    let mut taken = 0;
    for place in 0..PLACES {
        taken += is_taken(bucket, place);
    }
    PLACES - taken as usize
}

/// 1: the place is not free.
#[inline(always)]
fn is_taken(bucket: *mut BucketV4, place: usize) -> u64 {
    // SAFETY: a word of the map's value.
    is_set(unsafe { read_volatile(head(bucket, place, 0)) })
}

/// How many places there are before the first of which `is` is 0.
#[inline(always)]
fn count_leading(is: impl Fn(usize) -> u64) -> usize {
    let (mut all, mut count) = (1, 0);
    for place in 0..PLACES {
        all &= is(place);
        count += all;
    }
    count as usize
}

/// 1 if a bit is set, without a branch.
#[inline(always)]
fn is_set(word: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let sign: u64;
        // SAFETY: registers only. The compiler would make a comparison and a branch of it; and it does one after the other,
        // so that registers suffice.
        unsafe {
            core::arch::asm!("{sign} = {word}", "{sign} = -{sign}", "{sign} |= {word}", "{sign} >>= 63",
                 word = in(reg) word, sign = out(reg) sign, options(nomem, nostack));
        }
        sign
    }
    // Where lints are checked: on the machine that builds.
    #[cfg(not(target_arch = "bpf"))]
    u64::from(word != 0)
}

#[inline(always)]
fn session(bucket: *mut BucketV4, place: usize) -> *mut Session {
    // SAFETY: inside the element.
    unsafe { (&raw mut (*bucket).sessions).cast::<Session>().add(place) }
}

#[inline(always)]
fn head(bucket: *mut BucketV4, place: usize, index: usize) -> *mut u64 {
    // SAFETY: inside the element.
    unsafe { (&raw mut (*bucket).heads).cast::<u64>().add(place * HEAD + index) }
}

#[inline(always)]
fn tail(bucket: *mut BucketV4, place: usize, index: usize) -> *mut u64 {
    // SAFETY: inside the element; asked of IPv6 only.
    unsafe { (&raw mut (*bucket.cast::<BucketV6>()).tails).cast::<[u64; 4]>().add(place).cast::<u64>().add(index) }
}
