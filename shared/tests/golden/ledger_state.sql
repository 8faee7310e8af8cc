SELECT `source_schema`, `source_table`, `outcome`, `reason`, UNIX_MICROS(`covered_to`) AS `covered_to`, TO_JSON_STRING(`offsets`) AS `offsets`, `highest_position`, UNIX_MICROS(`recorded_at`) AS `recorded_us`, `work`, `epochs`, UNIX_MICROS(`window_from`) AS `window_from`, UNIX_MICROS(MIN(`recorded_at`) OVER ()) AS `begun`
FROM `project`.`cdc`.`merges`
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `recorded_at` DESC) = 1
