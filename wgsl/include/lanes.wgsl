// Whether the 32 invocations of a workgroup are one subgroup. Every invocation calls it.
//!subgroups
// Places in the subgroup of the invocations whose numbers differ by bit 0, and by bit 1.
var<private> neighbours: vec2<u32>;
var<workgroup> together: u32;
var<workgroup> lane_ids: array<u32, 32>;

fn one_subgroup(lane: u32, lane_id: u32) -> bool {
  if (subgroupAdd(1u) == 32u && lane == 0u) {
    together = 1u;
  }
  lane_ids[lane] = lane_id;
  let whole = workgroupUniformLoad(&together) == 1u;
  neighbours = vec2(lane_ids[lane ^ 1u], lane_ids[lane ^ 2u]);
  return whole;
}
//!else
fn one_subgroup() -> bool {
  return false;
}
//!end
