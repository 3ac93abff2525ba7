// Made by `deno task wasm` from asm/dense.ts. Do not edit.
import type { InlinedModule } from "../inflate.ts";

/** The builds of asm/dense.ts. */
export const dense: InlinedModule = {
  lengths: [330, 1050, 1050],
  deflated:
    "7VRLjhMxEC27Hdv9mf7kx8yunCUnyDINKzTiDpNFJGglYsSExQihIHEDxKnYcgU0h0BqiXK5MxMyPWKDWKU31fX6tf38ylWwvNkIABC5vNI7fuAKxC6KJIhBRJ8MRvbNann9YnmzAmE3H9bbt9frWwC9WW3evb+VkHyR8peQdjf4FC1QYHypFggoMV7Xcts4gwNU+ySrwSVEU5h4WkLgTGPUOIsas8alL0kNuDyEIoQyhAoNcSWvc0ZraDx7RWvkqJ9LmA3RUvj21eVYICeKkgLLkFhKSqxCklFSoa5V4zRaVLykzUSaYor5XAKFYi4VhXIuLYVqLjNSSz8kTItr0bjYv6YDqD/bFP6Fkz+M/G5kvEs/0vHi2jaoXqsFWWYoN7Q7Csoxom+smJ01a4wbzlM+icvYfcOGd4bNzhqXtxkcPa7owcoerOrBhj3YqAcb92CTHmzKJc19SQvUbUw1PUfbgoLZs/ZOtD8FVzNg5ey8w3xR6SY0/MMF7qm+0he4Jw1x5Em12B7zRjg+4I1xwrxofcyb4PSAN324PNnDzSnaVPmrU1IsKWbe/opBjcM96EUQPurw8T1OmxI+6fAp477ozvj1ubfM5dPl7yvv45tALcg+Zwc+B5fvPe7ti3A2v7VqHu2u/psA4/vOdC1ouxb044WMYYeSQ4c0a0z+6lASBJpOoPfaYBoEGhao/xAYqkKHCAL1gcDEC+QZcZoMp8lwmgynyfD0ZPgN",
};
