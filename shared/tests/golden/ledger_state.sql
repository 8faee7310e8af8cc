WITH `entries` AS (
SELECT * EXCEPT (`definitions`), MIN(LEAST(`recorded_at`, COALESCE(`begun_at`, `recorded_at`))) OVER () AS `begun`, MAX(`recorded_at`) OVER () AS `newest`, COUNT(*) OVER () AS `number`,
LAST_VALUE(`definitions` IGNORE NULLS) OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `recorded_at` ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS `definitions`
FROM `project`.`cdc`.`merges`
WHERE `recorded_at` >= TIMESTAMP '2026-03-02 00:00:00.000000+00'
),
`carriers` AS (
SELECT MIN(`recorded_at`) AS `carried_at`
FROM `entries`
WHERE `carried` IS NOT NULL
GROUP BY `run_id`
HAVING COUNT(DISTINCT CONCAT(`source_schema`, '\n', `source_table`)) >= MAX(`carried`)
),
`runs` AS (
SELECT `source_schema`, `source_table`, `run_id`, MIN(`recorded_at`) AS `claimed_at`, MIN(COALESCE(`based_on`, `recorded_at`)) AS `based`
FROM `entries`
GROUP BY `source_schema`, `source_table`, `run_id`
),
`in_turn` AS (
SELECT `source_schema` AS `run_schema`, `source_table` AS `run_table`, `run_id` AS `run`,
COALESCE(MAX(`claimed_at`) OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `claimed_at` ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) <= `based`, TRUE)
AND COALESCE(MIN(`based`) OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `claimed_at` ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) >= `claimed_at`, TRUE) AS `counts`
FROM `runs`
),
`judged` AS (
SELECT `entries`.*, `counts`,
MAX(IF(`counts`, NULL, `recorded_at`)) OVER (PARTITION BY `source_schema`, `source_table`) AS `newest_that_does_not`
FROM `entries` JOIN `in_turn` ON `run_schema` = `source_schema` AND `run_table` = `source_table` AND `run` = `run_id`
)
SELECT `source_schema`, `source_table`, `outcome`, `reason`, UNIX_MICROS(`covered_to`) AS `covered_to`, TO_JSON_STRING(`offsets`) AS `offsets`, `highest_position`, UNIX_MICROS(`recorded_at`) AS `recorded_us`, `work`, `epochs`, `unfilled`, UNIX_MICROS(`window_from`) AS `window_from`, UNIX_MICROS(`begun`) AS `begun`, UNIX_MICROS(`newest`) AS `newest`, `counts`, COALESCE(`newest_that_does_not` > `recorded_at`, FALSE) AS `is_outrun`, `definitions`, `number`, UNIX_MICROS((SELECT MAX(`carried_at`) FROM `carriers`)) AS `carried_us`
FROM `judged`
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `counts` DESC, `recorded_at` DESC) = 1
