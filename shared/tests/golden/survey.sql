SELECT COUNTIF(`flaw_reason` IS NULL) AS `keys`, COUNTIF(`flaw_reason` IS NOT NULL) AS `flawed`, SUM(`records`) AS `records`, COUNTIF(`late`) AS `late`, MAX(`newest`) AS `newest`, CAST(MIN(IF(`flaw_reason` IS NULL, `c0`, NULL)) AS STRING) AS `lowest_key`, CAST(MAX(IF(`flaw_reason` IS NULL, `c0`, NULL)) AS STRING) AS `highest_key`
FROM `project`.`cdc`.`_strait_fold_hard_null`
