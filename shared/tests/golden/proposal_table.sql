CREATE TABLE `project`.`replica`.`shop_order` (
  -- it's `one`
  `id` NUMERIC NOT NULL,
  -- it's `one`
  `it's` STRING NOT NULL,
  -- it's `one`
  `a_b_2e7336dc` JSON OPTIONS (description = 'Source column: "a.b"'),
  -- it's `one`
  `select` NUMERIC(12, 2),
  -- Strait's own
  `_strait_position` STRING,
  `_strait_merged_at` TIMESTAMP,
  `_strait_deleted` BOOL,
  -- the key
  PRIMARY KEY (`it's`, `id`) NOT ENFORCED
)
CLUSTER BY `it's`, `id`;
