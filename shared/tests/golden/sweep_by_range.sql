DELETE FROM `project`.`replica`.`by_range`
WHERE COALESCE(`_strait_position`, '') < '1767322000000000' AND (`n` IS NULL OR `n` IS NOT NULL) AND TRUE
