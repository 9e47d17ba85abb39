//! The scenario on this machine's kernel, by each way to TC ingress. Needs root.

use vpc_vm_tests::scenario::{Attach, run};

fn check(attach: Attach) {
    if let Err(error) = run(attach, &mut |name, figure| println!("{name}: {figure}")) {
        panic!("{error:#}");
    }
}

#[test]
fn two_nodes_as_the_kernel_allows() {
    check(Attach::Auto);
}

#[test]
fn two_nodes_by_filters() {
    check(Attach::Clsact);
}
